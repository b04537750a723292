//! Training with libtorch: the backend, the optimizer, the loop, checkpoints. The only home of tch.
//!
//! The binary `pipe-train` is a worker: `pipe` starts it with a [`Request`] and reads
//! its events. See [`pipe_core::worker`].

mod backend;
mod cache;
mod checkpoint;
mod device;
#[cfg(test)]
mod family_tests;
mod generator;
#[cfg(test)]
mod generator_tests;
mod intervals;
mod kernels;
mod loss;
mod loss_scale;
mod model;
mod optimizer;
#[cfg(test)]
mod packing_tests;
#[cfg(test)]
mod parity_tests;
mod plot;
mod predict;
mod recompute;
mod reference;
mod sampler;
mod schedule;
mod shim;
mod state;
mod step;
#[cfg(test)]
mod task_tests;
mod tensorboard;
#[cfg(test)]
mod testing;
mod trainer;
mod weights;

use pipe_core::provenance::Provenance;
use pipe_core::worker::{Command, Request};
use pipe_core::{BatchSource, Progress, Result, Summary, Task};
use pipe_data::TokenSource;

pub use generator::TorchGenerator;
pub use model::Model;
pub use reference::write_generation as write_generation_reference;
pub use trainer::{TrainPaths, train};

/// Does what `request` asks.
pub fn run(request: &Request, progress: &dyn Progress) -> Result<Summary> {
    let device = device::open(request.device, request.cuda_libraries.as_deref())?;
    if let Some(threads) = request.threads {
        tch::set_num_threads(threads as i32);
    }
    match &request.command {
        Command::Train { config, model, tokens, out, scratch, record } => {
            train(config, &TrainPaths { model: model.as_deref(), tokens, out, scratch, record }, device, progress)
        }
        Command::Evaluate { config, model, tokens, split, out, scratch } => {
            let data = Provenance::read(tokens)?;
            Provenance::read(model)?.check_data(&data)?;
            let mut model = Model::open(model, device, config.bf16)?;
            let source = TokenSource::open(tokens, split, scratch)?;
            model.check_rows(source.lengths(), data.tokenize.vocab_size)?;
            let evaluation = config.evaluation(data.task, &data.labels);
            let report = pipe_core::evaluate(&mut model, &source, &evaluation, progress)?;
            report.write(out)?;
            Ok(report.summary(&config.metrics(data.task, &data.labels)))
        }
        Command::Predict(request) => predict::run(request, device, progress),
        Command::Reference { model, tokens, split, rows, out, scratch } => {
            if Provenance::read(model)?.task == Task::CausalLm {
                let prompts = reference::prompts(tokens, split, *rows, scratch)?;
                return reference::write_generation(&mut TorchGenerator::open(model, device, false)?, &prompts, reference::STEPS, out);
            }
            reference::write(&mut Model::open(model, device, false)?, tokens, split, *rows, out, scratch)
        }
    }
}
