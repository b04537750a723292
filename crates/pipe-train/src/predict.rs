//! The predict stage with a trained model as it is: what the export would write, without one.

use pipe_core::cache::Artifact;
use pipe_core::worker::PredictRequest;
use pipe_core::{Progress, Result, Summary, Task};
use pipe_data::predict::{self, Engine, PREDICTIONS, Scorer, TextPipeline};
use tch::Device;

use crate::generator::TorchGenerator;
use crate::model::Model;

/// Does what `request` asks.
pub(crate) fn run(request: &PredictRequest, device: Device, progress: &dyn Progress) -> Result<Summary> {
    let PredictRequest { config, root, model: folder, rows, splits, identity, shards, out } = request;
    let rows = Artifact::borrowed(rows)?;
    let shards = shards.clone().open();
    // Names are found by ONNX Runtime, which this process has not: the plan refuses `ner` here.
    let pipeline = TextPipeline::of_stage(folder, config, root, &rows, None)?;
    let (mut model, mut writer);
    let engine = if pipeline.task() == Task::CausalLm {
        writer = TorchGenerator::open(folder, device, config.bf16)?;
        Engine::Writes { model: &mut writer, generation: &config.generation }
    } else {
        model = Model::open(folder, device, config.bf16)?;
        Engine::Scores(&mut model)
    };
    let scorer = Scorer { pipeline: &pipeline, engine, identity: identity.clone(), keep_columns: &config.keep_columns };
    let counts = predict::run(scorer, &rows, splits, &out.join(PREDICTIONS), &shards, progress)?;
    Ok(predict::summary(pipeline.task(), &counts, &shards))
}
