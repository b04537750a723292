//! Keys and values of the tokens that a language model has read, and attention over them.

use pipe_model::AttentionSpec;
use tch::{Kind, TchError, Tensor};

/// Places that a cache is made longer by: what is copied for it is spread over as many tokens.
const GROWTH: i64 = 64;

/// One pair of tensors `[B, kv_heads, places, dim]` per layer, of which the first `length` places are used. They are longer than that,
/// so that a token is written into its place instead of copying all before it.
#[derive(Debug, Default)]
pub(crate) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    /// Tokens of each row, padding included.
    length: i64,
}

impl KvCache {
    /// Ends a pass over `tokens` more tokens, all of whose layers were [extended](KvCache::attention).
    pub(crate) fn advance(&mut self, tokens: i64) {
        self.length += tokens;
    }

    /// These rows alone, in this order.
    pub(crate) fn keep(&mut self, rows: &Tensor) -> Result<(), TchError> {
        for (keys, values) in &mut self.layers {
            (*keys, *values) = (keys.f_index_select(0, rows)?, values.f_index_select(0, rows)?);
        }
        Ok(())
    }

    /// Puts the keys and values of `L` more tokens into the cache of `layer`; attention over all there are. Shapes as
    /// [`pipe_model::Backend::attention`] has them, the mask `[B, 1, L, T]`.
    pub(crate) fn attention(
        &mut self,
        layer: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: &Tensor,
        spec: &AttentionSpec,
    ) -> Result<Tensor, TchError> {
        let size = q.size();
        let (rows, length, dim) = (size[0], size[1], spec.head_dim);
        let (kv_heads, groups) = (spec.kv_heads, spec.heads / spec.kv_heads);
        let heads = |x: &Tensor| x.f_reshape([rows, length, kv_heads, dim])?.f_transpose(1, 2);
        let (keys, values) = self.extend(layer, &heads(k)?, &heads(v)?)?;

        // Queries that share a head of keys stand one below the other, so that no key is copied: [B, kv_heads, groups · L, dim]
        let queries = q.f_reshape([rows, length, kv_heads, groups, dim])?.f_permute([0, 2, 3, 1, 4])?;
        // In half precision a product that is not scaled yet may be too large for its type.
        let scaled_before = q.kind() == Kind::Half;
        let queries = if scaled_before { queries.f_mul_scalar(spec.scale)? } else { queries };
        let scale = if scaled_before { 1.0 } else { spec.scale };
        let queries = queries.f_reshape([rows, kv_heads, groups * length, dim])?;
        let all = self.length + length;
        let scores = queries.f_matmul(&keys.f_transpose(2, 3)?)?.f_to_kind(Kind::Float)?.f_view([rows, kv_heads, groups, length, all])?;
        let probabilities = scores.f_mul_scalar(scale)?.f_add(&mask.f_unsqueeze(1)?)?.f_softmax(-1, Kind::Float)?;
        let context = probabilities.f_to_kind(v.kind())?.f_view([rows, kv_heads, groups * length, all])?.f_matmul(&values)?;
        context.f_view([rows, kv_heads, groups, length, dim])?.f_permute([0, 3, 1, 2, 4])?.f_reshape([rows, length, spec.heads * dim])
    }

    /// All keys and values of `layer` with these at the end.
    fn extend(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let (begin, length) = (self.length, k.size()[2]);
        let end = begin + length;
        let with_room = |x: &Tensor, old: Option<&Tensor>| {
            if let Some(old) = old.filter(|old| old.size()[2] >= end) {
                return Ok(old.shallow_clone());
            }
            let size = x.size();
            // By half as much again, so that a long text is not copied often.
            let places = (begin + begin / 2).max(end + GROWTH - 1) / GROWTH * GROWTH;
            let new = Tensor::f_empty([size[0], size[1], places.max(end), size[3]], (x.kind(), x.device()))?;
            if let Some(old) = old {
                new.f_narrow(2, 0, begin)?.f_copy_(&old.f_narrow(2, 0, begin)?)?;
            }
            Ok::<Tensor, TchError>(new)
        };
        let old = self.layers.get(layer);
        let (keys, values) = (with_room(k, old.map(|(keys, _)| keys))?, with_room(v, old.map(|(_, values)| values))?);
        keys.f_narrow(2, begin, length)?.f_copy_(k)?;
        values.f_narrow(2, begin, length)?.f_copy_(v)?;
        let all = (keys.f_narrow(2, 0, end)?, values.f_narrow(2, 0, end)?);
        match self.layers.get_mut(layer) {
            Some(slot) => *slot = (keys, values),
            None => self.layers.push((keys, values)),
        }
        Ok(all)
    }
}
