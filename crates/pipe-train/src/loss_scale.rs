//! The loss scale of fp16: gradients too small for half precision are multiplied up, and the factor follows what fits.

use pipe_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// As `torch.amp.GradScaler` with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossScale {
    scale: f64,
    /// Steps since it last changed.
    steady_steps: u32,
}

const FIRST: f64 = 65_536.0;
const GROWTH_INTERVAL: u32 = 2000;

impl LossScale {
    pub(crate) fn new() -> LossScale {
        LossScale { scale: FIRST, steady_steps: 0 }
    }

    pub(crate) fn factor(&self) -> f64 {
        self.scale
    }

    /// All gradients of a step were finite: after many such steps the scale doubles.
    pub(crate) fn fits(&mut self) {
        self.steady_steps += 1;
        if self.steady_steps == GROWTH_INTERVAL {
            (self.scale, self.steady_steps) = (self.scale * 2.0, 0);
        }
    }

    /// A gradient overflowed, and its step was left out: the scale halves. An error where it cannot be that.
    pub(crate) fn overflows(&mut self) -> Result<()> {
        (self.scale, self.steady_steps) = (self.scale / 2.0, 0);
        if self.scale < 1.0 {
            return Err(Error::stage("gradients are not finite whatever the loss scale").hint("use `bf16: true`, or lower `learning_rate`"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_follows_what_fits_and_gives_up_in_the_end() {
        let mut scale = LossScale::new();
        scale.overflows().unwrap();
        assert_eq!(scale.factor(), 32_768.0);
        for _ in 0..GROWTH_INTERVAL {
            scale.fits();
        }
        assert_eq!(scale.factor(), 65_536.0);
        let left = (0..100).take_while(|_| scale.overflows().is_ok()).count();
        assert_eq!(left, 16);
    }
}
