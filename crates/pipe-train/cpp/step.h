// What the rows of a table of embeddings have: see `step.cpp`.
#pragma once
#include <cstdint>

namespace pipe {
// A gradient; moments that may not be zero.
constexpr uint8_t kGradient = 1, kMoments = 2;
}  // namespace pipe
