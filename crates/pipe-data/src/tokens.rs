//! Token Parquet as a source of batches: decoded once into memory-mapped files, so that rows can be drawn in any
//! order without holding them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int32Type, Int64Type};
use memmap2::Mmap;
use pipe_core::provenance::{Provenance, Tokenization};
use pipe_core::{Batch, BatchSource, Error, IoContext, Result};

use crate::parquet_io::{TableReader, files_of};

/// One split of a token artifact.
pub struct TokenSource {
    /// Token ids of all rows, one after the other.
    ids: Option<Mmap>,
    /// Token types likewise; absent where all are zero.
    types: Option<Mmap>,
    row_ids: Option<Mmap>,
    /// Where each row begins in `ids` (in tokens), and the end of the last.
    offsets: Vec<u64>,
    row_id_offsets: Vec<u64>,
    lengths: Vec<u32>,
    labels: Vec<i64>,
    tokenization: Tokenization,
}

impl TokenSource {
    /// Decodes `tokens/split` into `scratch`.
    pub fn open(tokens: &Path, split: &str, scratch: &Path) -> Result<TokenSource> {
        let folder = tokens.join(split);
        if !folder.is_dir() {
            return Err(Error::usage(format!("there is no split `{split}` in the tokens")).hint("ingest's `split:` says which splits there are"));
        }
        let tokenization = Provenance::read(tokens)?.tokenize;
        let create = |name: &str| {
            let path = scratch.join(format!("{split}.{name}"));
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .doing("write", &path)
                .map(|file| (BufWriter::with_capacity(1 << 20, file), path))
        };
        let ((mut ids, ids_path), (mut types, types_path), (mut names, names_path)) = (create("ids")?, create("types")?, create("names")?);
        let (mut offsets, mut row_id_offsets, mut lengths, mut labels) = (vec![0u64], vec![0u64], Vec::new(), Vec::new());
        let mut any_type = false;
        for file in files_of(&folder)? {
            for batch in TableReader::open(&file)? {
                let batch = batch?;
                let column =
                    |name: &str| batch.column_by_name(name).ok_or_else(|| Error::internal(format!("{} has no column {name}", file.display())));
                let input_ids = column("input_ids")?.as_list::<i32>();
                let token_types = column("token_type_ids")?.as_list::<i32>();
                let masks = column("attention_mask")?.as_list::<i32>();
                let row_names = column("id")?.as_string::<i32>();
                if let Some(column) = batch.column_by_name("label") {
                    labels.extend_from_slice(column.as_primitive::<Int64Type>().values());
                }
                for row in 0..batch.num_rows() {
                    let (row_ids, row_types, mask) = (input_ids.value(row), token_types.value(row), masks.value(row));
                    // Padding on disk is not carried along: batches are padded anew, to `max_length` if so asked.
                    let real = mask.as_primitive::<Int8Type>().values().iter().filter(|&&bit| bit == 1).count();
                    for id in &row_ids.as_primitive::<Int32Type>().values()[..real] {
                        ids.write_all(&id.to_le_bytes()).doing("write", &ids_path)?;
                    }
                    for kind in &row_types.as_primitive::<Int8Type>().values()[..real] {
                        any_type |= *kind != 0;
                        types.write_all(&[*kind as u8]).doing("write", &types_path)?;
                    }
                    names.write_all(row_names.value(row).as_bytes()).doing("write", &names_path)?;
                    offsets.push(offsets[offsets.len() - 1] + real as u64);
                    row_id_offsets.push(row_id_offsets[row_id_offsets.len() - 1] + row_names.value(row).len() as u64);
                    lengths.push(real as u32);
                }
            }
        }
        let map = |writer: BufWriter<File>, path: &Path, wanted: bool| -> Result<Option<Mmap>> {
            let file = writer.into_inner().map_err(|e| Error::io("write", path, e.into_error()))?;
            let empty = file.metadata().doing("read", path)?.len() == 0;
            if empty || !wanted {
                return Ok(None);
            }
            // SAFETY: the file is ours, in the work folder whose lock this process holds; nobody else writes it.
            unsafe { Mmap::map(&file) }.doing("map", path).map(Some)
        };
        Ok(TokenSource {
            ids: map(ids, &ids_path, true)?,
            types: map(types, &types_path, any_type)?,
            row_ids: map(names, &names_path, true)?,
            offsets,
            row_id_offsets,
            lengths,
            labels,
            tokenization,
        })
    }

    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    fn tokens(&self, row: usize) -> impl Iterator<Item = i64> {
        let (start, end) = (self.offsets[row] as usize * 4, self.offsets[row + 1] as usize * 4);
        let bytes = self.ids.as_ref().map_or(&[][..], |map| &map[start..end]);
        bytes.chunks_exact(4).map(|bytes| i64::from(i32::from_le_bytes(bytes.try_into().expect("four bytes"))))
    }

    fn types(&self, row: usize) -> Option<&[u8]> {
        let (start, end) = (self.offsets[row] as usize, self.offsets[row + 1] as usize);
        self.types.as_ref().map(|map| &map[start..end])
    }
}

impl BatchSource for TokenSource {
    fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch> {
        let longest = rows.iter().map(|&row| self.lengths[row] as usize).max().unwrap_or(0);
        let length = match self.tokenization.padding {
            pipe_core::config::Padding::MaxLength => self.tokenization.max_length,
            pipe_core::config::Padding::Longest => longest.max(1),
        };
        let mut batch = Batch { length, rows: rows.to_vec(), ..Batch::default() };
        for (at, &row) in rows.iter().enumerate() {
            let (real, end) = (self.lengths[row] as usize, (at + 1) * length);
            batch.input_ids.extend(self.tokens(row));
            batch.input_ids.resize(end, i64::from(self.tokenization.pad_token_id));
            match self.types(row) {
                Some(types) => batch.token_type_ids.extend(types.iter().map(|&kind| i64::from(kind))),
                None => batch.token_type_ids.resize(at * length + real, 0),
            }
            batch.token_type_ids.resize(end, i64::from(self.tokenization.pad_token_type_id));
            batch.attention_mask.resize(at * length + real, 1);
            batch.attention_mask.resize(end, 0);
        }
        if !self.labels.is_empty() {
            batch.labels = rows.iter().map(|&row| self.labels[row]).collect();
        }
        Ok(batch)
    }

    fn row_id(&self, row: usize) -> String {
        let (start, end) = (self.row_id_offsets[row] as usize, self.row_id_offsets[row + 1] as usize);
        self.row_ids.as_ref().map_or_else(String::new, |map| String::from_utf8_lossy(&map[start..end]).into_owned())
    }
}
