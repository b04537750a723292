// Matrix products with vectors of `kLanes` numbers, of which a tile is `kTileRows` rows of two; included by `gemm.cpp` in a namespace for
// each kind of processor, which has both numbers and `transpose_block`.

constexpr int64_t kTileColumns = 2 * kLanes;
// Tiles of rows that a panel meets before the next one.
constexpr int64_t kBlockTiles = kBlockRows / kTileRows;

typedef float Vector __attribute__((vector_size(4 * kLanes), may_alias));

inline Vector load(const float* from) {
  Vector x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

inline void store(float* to, Vector x) { std::memcpy(to, &x, sizeof x); }

// The first `count` numbers of a vector: all of them where there are more, zeros in the place of those that are missing.
inline Vector load_first(const float* from, int64_t count) {
  if (count >= kLanes) return load(from);
  float numbers[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) numbers[i] = from[i];
  return load(numbers);
}

inline void store_first(float* to, Vector x, int64_t count) {
  if (count >= kLanes) return store(to, x);
  float numbers[kLanes];
  store(numbers, x);
  for (int64_t i = 0; i < count; ++i) to[i] = numbers[i];
}

// A panel of `b`: `k` rows of `columns` numbers, filled up with zeros.
void pack_panel(Matrix b, int64_t k, int64_t columns, float* to) {
  if (b.column == 1) {
    for (int64_t u = 0; u < k; ++u) {
      store(to + u * kTileColumns, load_first(b.data + u * b.row, columns));
      store(to + u * kTileColumns + kLanes, load_first(b.data + u * b.row + kLanes, columns - kLanes));
    }
    return;
  }
  for (int64_t u = 0; u < k; u += kLanes) {
    const int64_t depth = std::min(kLanes, k - u);
    for (int64_t half = 0; half < kTileColumns; half += kLanes) {
      const int64_t width = std::clamp<int64_t>(columns - half, 0, kLanes);
      const float* from = b.data + half * b.column + u;
      float* block = to + u * kTileColumns + half;
      if (width == kLanes && depth == kLanes) {
        transpose_block(from, b.column, block, kTileColumns);
      } else {
        for (int64_t i = 0; i < depth; ++i)
          for (int64_t j = 0; j < kLanes; ++j) block[i * kTileColumns + j] = j < width ? from[j * b.column + i] : 0;
      }
    }
  }
}

// A tile's rows of an `a` that is stored by columns: `k` times its numbers, with gaps where rows are missing.
void pack_rows(Matrix a, int64_t k, int64_t rows, float* to) {
  if (rows == kTileRows) {
    for (int64_t u = 0; u < k; ++u) std::memcpy(to + u * kTileRows, a.data + u * a.column, kTileRows * sizeof(float));
  } else {
    for (int64_t u = 0; u < k; ++u) std::copy_n(a.data + u * a.column, rows, to + u * kTileRows);
  }
}

// What the sums of a tile are added to.
enum class Base { Nothing, Bias, Tile };

// c[Rows, columns] = base + a[Rows, k] · panel[k, columns]
template <int Rows>
void multiply_tile(int64_t k, Matrix a, const float* panel, int64_t columns, Base base, const float* bias, float* c, int64_t c_row) {
  Vector sums[Rows][2];
#pragma GCC unroll 14
  for (int i = 0; i < Rows; ++i) sums[i][0] = sums[i][1] = Vector{};
  const float* values = a.data;
  for (int64_t u = 0; u < k; ++u, values += a.column, panel += kTileColumns) {
    const Vector b0 = load(panel), b1 = load(panel + kLanes);
#pragma GCC unroll 14
    for (int i = 0; i < Rows; ++i) {
      const float value = values[i * a.row];
      sums[i][0] += value * b0;
      sums[i][1] += value * b1;
    }
  }
  // Only now: a long sum loses less where its blocks are added to one another.
#pragma GCC unroll 14
  for (int i = 0; i < Rows; ++i) {
    float* to = c + i * c_row;
    if (base != Base::Nothing) {
      const float* from = base == Base::Tile ? to : bias;
      sums[i][0] += load_first(from, columns);
      sums[i][1] += load_first(from + kLanes, columns - kLanes);
    }
    store_first(to, sums[i][0], columns);
    store_first(to + kLanes, sums[i][1], columns - kLanes);
  }
}

template <int... Rows>
constexpr std::array<decltype(&multiply_tile<1>), sizeof...(Rows)> tiles_of(std::integer_sequence<int, Rows...>) {
  return {multiply_tile<Rows + 1>...};
}
// By how many rows they have, from 1.
constexpr auto kTiles = tiles_of(std::make_integer_sequence<int, kTileRows>());

// A part of a product: `columns` of `c`, from a stretch `k` of the inner dimension.
struct Part {
  int64_t rows, columns, k;
  Matrix a;
  // In panels.
  const float* b;
  const float* bias;
  bool first;
  float* c;
  int64_t c_row;
};

void multiply(const Part& part, float* packed) {
  const int64_t panels = divide_up(part.columns, kTileColumns), all_tiles = divide_up(part.rows, kTileRows);
  const bool by_columns = part.a.column != 1;
  // An `a` by columns is laid out as far as there is room.
  const int64_t at_once = by_columns ? std::clamp<int64_t>(kPacked / (kTileRows * part.k), 1, all_tiles) : all_tiles;
  for (int64_t begin = 0; begin < all_tiles; begin += at_once) {
    const int64_t tiles = std::min(at_once, all_tiles - begin);
    const auto rows_of = [&](int64_t tile) { return std::min(kTileRows, part.rows - (begin + tile) * kTileRows); };
    const auto of_a = [&](int64_t tile) { return part.a.data + (begin + tile) * kTileRows * part.a.row; };
    if (by_columns) {
      at::parallel_for(0, tiles, std::max<int64_t>(1, kPackGrain / (kTileRows * part.k)), [&](int64_t from, int64_t to) {
        for (int64_t tile = from; tile < to; ++tile) {
          pack_rows({of_a(tile), part.a.row, part.a.column}, part.k, rows_of(tile), packed + tile * kTileRows * part.k);
        }
      });
    }
    const int64_t grain = std::max<int64_t>(1, kGrain / (kTileRows * kTileColumns * part.k));
    at::parallel_for(0, panels * tiles, grain, [&](int64_t from, int64_t to) {
      for (int64_t k = 0; k < part.k; k += kInner) {
        for (int64_t at = from; at < to; ++at) {
          const int64_t block = at / (kBlockTiles * panels), in_block = at - block * kBlockTiles * panels;
          const int64_t tiles_of_block = std::min(kBlockTiles, tiles - block * kBlockTiles);
          const int64_t panel = in_block / tiles_of_block, tile = block * kBlockTiles + in_block % tiles_of_block;
          const Matrix a = by_columns ? Matrix{packed + tile * kTileRows * part.k + k * kTileRows, 1, kTileRows}
                                      : Matrix{of_a(tile) + k, part.a.row, 1};
          const int64_t column = panel * kTileColumns;
          const Base base = k > 0 || !part.first ? Base::Tile : part.bias == nullptr ? Base::Nothing : Base::Bias;
          kTiles[rows_of(tile) - 1](std::min(kInner, part.k - k), a, part.b + panel * kTileColumns * part.k + k * kTileColumns,
                                    std::min(kTileColumns, part.columns - column), base, part.bias == nullptr ? nullptr : part.bias + column,
                                    part.c + (begin + tile) * kTileRows * part.c_row + column, part.c_row);
        }
      }
    });
  }
}

void gemm(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, const float* bias, float* c) {
  thread_local Buffer of_a, of_b;
  const int64_t inner = std::min(k, kPacked / (8 * kTileColumns));
  const int64_t columns = std::min(divide_up(n, kTileColumns), kPacked / (kTileColumns * inner)) * kTileColumns;
  float* rows = a.column == 1 ? nullptr : of_a.at_least(std::min(kPacked, divide_up(m, kTileRows) * kTileRows * inner));
  float* panels = of_b.at_least(columns * inner);
  for (int64_t j = 0; j < n; j += columns) {
    const int64_t width = std::min(columns, n - j);
    for (int64_t u = 0; u < k; u += inner) {
      const int64_t depth = std::min(inner, k - u);
      const Matrix part_of_b{b.data + u * b.row + j * b.column, b.row, b.column};
      at::parallel_for(0, divide_up(width, kTileColumns), std::max<int64_t>(1, kPackGrain / (kTileColumns * depth)), [&](int64_t from, int64_t to) {
        for (int64_t panel = from; panel < to; ++panel) {
          const int64_t column = panel * kTileColumns;
          pack_panel({part_of_b.data + column * b.column, b.row, b.column}, depth, std::min(kTileColumns, width - column),
                     panels + column * depth);
        }
      });
      multiply({m, width, depth, {a.data + u * a.column, a.row, a.column}, panels, bias == nullptr ? nullptr : bias + j, u == 0, c + j, n}, rows);
    }
  }
}
