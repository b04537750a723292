//! `pipe schema`: the JSON Schema of the pipeline file.

use pipe_core::{Error, Result};

use crate::terminal::print_result;

pub(crate) fn command() -> Result<u8> {
    let schema = serde_json::to_string_pretty(&pipe_core::schema::pipeline_file());
    print_result(&schema.map_err(|_| Error::internal("the schema cannot be written as JSON"))?);
    Ok(0)
}
