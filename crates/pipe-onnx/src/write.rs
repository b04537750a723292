//! Writes a recorded graph as `model.onnx`, weights streamed from where they are.
//!
//! ```text
//! model.onnx        ModelProto: version, opset, metadata | graph: nodes, values | one initialiser after the other
//! model.onnx_data   only where model.onnx would pass 2 GiB, which protobuf cannot hold: the weights, each at a
//!                   multiple of 4096 so that a runtime can map them
//! ```
//!
//! A protobuf message is its fields one after the other in any order, so the small parts are encoded by prost and the
//! large ones written behind them, without a second copy of the weights in memory.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use pipe_core::{IoContext, Result};
use prost::{Message, length_delimiter_len};

use crate::graph::Initializer;
use crate::proto::{DataLocation, GraphProto, IR_VERSION, ModelProto, OPSET, OperatorSetIdProto, StringStringEntryProto, TensorProto};

/// The exported model.
pub(crate) const MODEL_FILE: &str = "model.onnx";
/// Its weights where they do not fit into it; the name that optimum uses.
pub(crate) const DATA_FILE: &str = "model.onnx_data";
/// Protobuf's 2 GiB, less some room for metadata that is appended.
pub(crate) const INLINE_LIMIT: u64 = (1 << 31) - (1 << 20);

const ALIGNMENT: u64 = 4096;
/// Below this a tensor stays in `model.onnx`, where tools that fold constants look for it.
const SMALLEST_EXTERNAL: usize = 1024;

/// The keys of a length-delimited field: number and wire type 2.
const MODEL_GRAPH: u8 = 7 << 3 | 2;
const GRAPH_INITIALIZER: u8 = 5 << 3 | 2;
const TENSOR_RAW_DATA: u8 = 9 << 3 | 2;

/// Writes the model into `folder`, in two files if one would be longer than `inline_limit`.
pub(crate) fn write(
    folder: &Path,
    graph: &GraphProto,
    initializers: &[Initializer<'_>],
    metadata: &[(&str, String)],
    inline_limit: u64,
) -> Result<()> {
    let head = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: OPSET }],
        producer_name: "pipe".into(),
        graph: None,
        metadata_props: entries(metadata),
    }
    .encode_to_vec();
    let graph = graph.encode_to_vec();

    let mut tensors: Vec<Tensor<'_, '_>> = initializers.iter().map(|initializer| Tensor::new(initializer, None)).collect();
    if (head.len() + delimited_len(graph_len(&graph, &tensors))) as u64 > inline_limit {
        let mut end = 0;
        for tensor in tensors.iter_mut().filter(|tensor| tensor.initializer.data.len() >= SMALLEST_EXTERNAL) {
            let offset = u64::next_multiple_of(end, ALIGNMENT);
            *tensor = Tensor::new(tensor.initializer, Some(offset));
            end = offset + tensor.initializer.data.len() as u64;
        }
    }

    if tensors.iter().any(|tensor| tensor.offset.is_some()) {
        let path = folder.join(DATA_FILE);
        write_data(&path, &tensors).doing("write", &path)?;
    }
    let path = folder.join(MODEL_FILE);
    write_model(&path, &head, &graph, &tensors).doing("write", &path)
}

/// Adds metadata to a finished `model.onnx` without touching what is there: a repeated field may go on anywhere.
pub(crate) fn append_metadata(path: &Path, metadata: &[(&str, String)]) -> Result<()> {
    let more = ModelProto { metadata_props: entries(metadata), ..Default::default() }.encode_to_vec();
    let append = || File::options().append(true).open(path)?.write_all(&more);
    append().doing("write", path)
}

fn entries(metadata: &[(&str, String)]) -> Vec<StringStringEntryProto> {
    metadata.iter().map(|(key, value)| StringStringEntryProto { key: (*key).to_owned(), value: value.clone() }).collect()
}

/// An initialiser, encoded up to its data, and where in the data file that goes (`None`: it follows inline).
struct Tensor<'i, 'w> {
    initializer: &'i Initializer<'w>,
    head: Vec<u8>,
    offset: Option<u64>,
}

impl<'i, 'w> Tensor<'i, 'w> {
    fn new(initializer: &'i Initializer<'w>, offset: Option<u64>) -> Self {
        let mut proto =
            TensorProto { dims: initializer.dims.clone(), data_type: initializer.kind.into(), name: initializer.name.clone(), ..Default::default() };
        if let Some(offset) = offset {
            let length = initializer.data.len().to_string();
            proto.external_data = entries(&[("location", DATA_FILE.into()), ("offset", offset.to_string()), ("length", length)]);
            proto.data_location = DataLocation::External.into();
        }
        Tensor { initializer, head: proto.encode_to_vec(), offset }
    }

    fn len(&self) -> usize {
        self.head.len() + if self.offset.is_some() { 0 } else { delimited_len(self.initializer.data.len()) }
    }
}

/// A length-delimited field whose key takes one byte.
fn delimited_len(len: usize) -> usize {
    1 + length_delimiter_len(len) + len
}

fn graph_len(graph: &[u8], tensors: &[Tensor<'_, '_>]) -> usize {
    graph.len() + tensors.iter().map(|tensor| delimited_len(tensor.len())).sum::<usize>()
}

fn write_data(path: &Path, tensors: &[Tensor<'_, '_>]) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut at = 0;
    for tensor in tensors {
        let Some(offset) = tensor.offset else { continue };
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), offset - at), &mut out)?;
        let data = stored(tensor.initializer);
        out.write_all(&data)?;
        at = offset + data.len() as u64;
    }
    out.flush()
}

fn write_model(path: &Path, head: &[u8], graph: &[u8], tensors: &[Tensor<'_, '_>]) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(head)?;
    write_key(&mut out, MODEL_GRAPH, graph_len(graph, tensors))?;
    out.write_all(graph)?;
    for tensor in tensors {
        write_key(&mut out, GRAPH_INITIALIZER, tensor.len())?;
        out.write_all(&tensor.head)?;
        if tensor.offset.is_none() {
            write_key(&mut out, TENSOR_RAW_DATA, tensor.initializer.data.len())?;
            out.write_all(&stored(tensor.initializer))?;
        }
    }
    out.flush()
}

fn write_key(out: &mut impl Write, key: u8, len: usize) -> std::io::Result<()> {
    let mut bytes = vec![key];
    prost::encode_length_delimiter(len, &mut bytes).expect("a Vec grows");
    out.write_all(&bytes)
}

/// The data in the order in which it is written: one tensor at a time is turned.
fn stored<'i>(initializer: &'i Initializer<'_>) -> Cow<'i, [u8]> {
    if !initializer.transposed {
        return Cow::Borrowed(&initializer.data);
    }
    let [columns, rows] = [initializer.dims[0] as usize, initializer.dims[1] as usize];
    let mut turned = vec![0; initializer.data.len()];
    for (at, value) in initializer.data.chunks_exact(4).enumerate() {
        let (row, column) = (at / columns, at % columns);
        turned[(column * rows + row) * 4..][..4].copy_from_slice(value);
    }
    Cow::Owned(turned)
}
