//! Rotary position embeddings (Su et al. 2021): the frequencies of each kind of scaling, as transformers computes them.

use std::f32::consts::TAU;

use pipe_core::{Error, Result};

use crate::config::Fields;

/// How far each pair of elements turns per position.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// Radians per position, one for each half of a head.
    pub inv_freq: Vec<f32>,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
}

impl Rotary {
    /// From `rope_theta` and `rope_scaling`, or the `rope_parameters` that transformers 5 writes in their place. Where a config has
    /// both, `rope_scaling` counts, as in transformers: somebody added it.
    pub(crate) fn read(config: &Fields<'_>, head_dim: i64, max_positions: i64) -> Result<Rotary> {
        if head_dim % 2 != 0 {
            return Err(Error::input(format!("`head_dim` is {head_dim}, rotary embeddings need an even one")));
        }
        let nothing = serde_json::Map::new();
        let parameters = config.mapping("rope_parameters")?.unwrap_or(Fields::new(&nothing, "rope_parameters"));
        let scaling = config.mapping("rope_scaling")?.filter(|fields| !fields.is_empty()).unwrap_or(parameters);
        let mut theta = None;
        for fields in [&scaling, &parameters, config] {
            theta = theta.or(fields.positive("rope_theta", None)?);
        }
        for fields in [config, &scaling] {
            if fields.number("partial_rotary_factor", Some(1.0))? != Some(1.0) {
                return Err(fields.unsupported("partial_rotary_factor", "1.0"));
            }
        }
        let base = Base { theta: theta.unwrap_or(10_000.0) as f32, dim: head_dim as usize };
        let kind = scaling.text("rope_type")?.or(scaling.text("type")?).unwrap_or("default");
        let factor = || scaling.required(scaling.positive("factor", None)?, "factor");
        let original = || Ok::<f64, Error>(scaling.positive("original_max_position_embeddings", Some(max_positions as f64))?.unwrap_or_default());
        let inv_freq = match kind {
            // Dynamic scaling begins beyond the model's positions, where no row may be.
            "default" | "dynamic" => base.inv_freq(),
            "linear" => {
                let factor = factor()? as f32;
                base.inv_freq().into_iter().map(|freq| freq / factor).collect()
            }
            "llama3" => {
                let low = scaling.required(scaling.positive("low_freq_factor", None)?, "low_freq_factor")?;
                let high = scaling.required(scaling.positive("high_freq_factor", None)?, "high_freq_factor")?;
                base.llama3(factor()? as f32, low as f32, high as f32, original()? as f32)
            }
            "yarn" => return base.yarn(&scaling, max_positions, original()?),
            _ => return Err(scaling.unsupported("rope_type", "default, linear, dynamic, llama3, yarn")),
        };
        Ok(Rotary { inv_freq, attention_factor: 1.0 })
    }
}

/// What every kind of scaling begins with. Computed in f32, as the models were trained.
struct Base {
    theta: f32,
    dim: usize,
}

impl Base {
    /// `theta^(2i / dim)`: the wavelength of each pair over 2π, in positions.
    fn periods(&self) -> impl Iterator<Item = f32> {
        (0..self.dim).step_by(2).map(|i| self.theta.powf(i as f32 / self.dim as f32))
    }

    fn inv_freq(&self) -> Vec<f32> {
        self.periods().map(|period| 1.0 / period).collect()
    }

    /// Llama 3.1: long wavelengths are stretched, short ones kept, those between interpolated.
    fn llama3(&self, factor: f32, low: f32, high: f32, original: f32) -> Vec<f32> {
        let scale = |freq: f32| {
            let wavelength = TAU / freq;
            if wavelength < original / high {
                freq
            } else if wavelength > original / low {
                freq / factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * freq / factor + smooth * freq
            }
        };
        self.inv_freq().into_iter().map(scale).collect()
    }

    /// Peng et al. 2023.
    fn yarn(&self, scaling: &Fields<'_>, max_positions: i64, original: f64) -> Result<Rotary> {
        let factor = scaling.positive("factor", Some(max_positions as f64 / original))?.unwrap_or_default();
        let mscale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let attention_factor =
            match (scaling.positive("attention_factor", None)?, scaling.number("mscale", None)?, scaling.number("mscale_all_dim", None)?) {
                (Some(factor), ..) => factor,
                (None, Some(one), Some(all)) if one != 0.0 && all != 0.0 => mscale(one) / mscale(all),
                _ => mscale(1.0),
            };
        let beta = |name, default| Ok::<f64, Error>(scaling.positive(name, Some(default))?.unwrap_or(default));
        // The pair that turns this often within the original context.
        let pair_of = |turns: f64| self.dim as f64 * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * f64::from(self.theta).ln());
        let (mut low, mut high) = (pair_of(beta("beta_fast", 32.0)?), pair_of(beta("beta_slow", 1.0)?));
        if scaling.flag("truncate", true)? {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(self.dim as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let inv_freq = self.periods().enumerate().map(|(pair, period)| {
            let ramp = ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            1.0 / (factor as f32 * period) * ramp + 1.0 / period * (1.0 - ramp)
        });
        Ok(Rotary { inv_freq: inv_freq.collect(), attention_factor })
    }
}
