//! Token Parquet as a source of batches: decoded once into memory-mapped files, so that rows can be drawn in any
//! order without holding them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use memmap2::Mmap;
use pipe_core::provenance::{Provenance, Tokenization};
use pipe_core::{Batch, BatchSource, Error, IoContext, Labels, Question, Result, Task, Window};

use crate::kept;
use crate::parquet_io::{TableReader, files_of};
use crate::tokenize::IGNORED;

/// One split of a token artifact.
pub struct TokenSource {
    /// The split's Parquet files.
    folder: PathBuf,
    /// Token ids of all rows, one after the other.
    ids: Spool<4>,
    /// Token types likewise; empty where all are zero.
    types: Spool<1>,
    /// Numbers of documents likewise; empty where no row has two.
    documents: Spool<2>,
    /// Labels of tokens likewise; empty where tokens have none.
    token_labels: Spool<4>,
    row_ids: Texts,
    /// Where each row begins in `ids` (in tokens), and the end of the last.
    offsets: Vec<u64>,
    lengths: Vec<u32>,
    labels: RowLabels,
    windows: Option<Windows>,
    task: Task,
    classes: usize,
    tokenization: Tokenization,
}

/// What a model is to give for whole rows.
enum RowLabels {
    None,
    Classes(Vec<i64>),
    /// Class ids of all rows, and where each row's begin.
    Sets {
        ids: Vec<i32>,
        starts: Vec<u32>,
    },
    Values(Vec<f32>),
    Spans(Vec<[i64; 2]>),
}

/// What only windows over contexts have.
struct Windows {
    /// The question of each row.
    questions: Vec<u32>,
    /// Two for each token.
    offsets: Spool<4>,
    contexts: Texts,
    /// JSON lists.
    answers: Texts,
    /// The first row of each question.
    first: Vec<u32>,
}

/// Numbers of `N` bytes in a file of the scratch folder: written one after the other, then mapped.
struct Spool<const N: usize> {
    path: PathBuf,
    writer: Option<BufWriter<File>>,
    map: Option<Mmap>,
}

impl<const N: usize> Spool<N> {
    fn create(scratch: &Path, split: &str, name: &str) -> Result<Spool<N>> {
        let path = scratch.join(format!("{split}.{name}"));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).doing("write", &path)?;
        Ok(Spool { writer: Some(BufWriter::with_capacity(1 << 20, file)), path, map: None })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.write_all(bytes)).doing("write", &self.path)
    }

    /// Ends the writing; what is not `wanted` is not mapped.
    fn finish(&mut self, wanted: bool) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(|e| Error::io("write", &self.path, e.into_error()))?;
        let empty = file.metadata().doing("read", &self.path)?.len() == 0;
        if wanted && !empty {
            // SAFETY: the file is ours, in the work folder whose lock this process holds; nobody else writes it.
            self.map = Some(unsafe { Mmap::map(&file) }.doing("map", &self.path)?);
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.map.is_none()
    }

    /// Numbers `start..end`.
    fn get(&self, start: usize, end: usize) -> impl Iterator<Item = [u8; N]> {
        let bytes = self.map.as_ref().map_or(&[][..], |map| &map[start * N..end * N]);
        bytes.chunks_exact(N).map(|bytes| bytes.try_into().expect("as many bytes as a number has"))
    }
}

/// Texts in a file of the scratch folder.
struct Texts {
    bytes: Spool<1>,
    /// Where each begins, and the end of the last.
    offsets: Vec<u64>,
}

impl Texts {
    fn create(scratch: &Path, split: &str, name: &str) -> Result<Texts> {
        Ok(Texts { bytes: Spool::create(scratch, split, name)?, offsets: vec![0] })
    }

    fn push(&mut self, text: &str) -> Result<()> {
        self.offsets.push(self.offsets[self.offsets.len() - 1] + text.len() as u64);
        self.bytes.push(text.as_bytes())
    }

    fn get(&self, at: usize) -> String {
        let bytes: Vec<u8> = self.bytes.get(self.offsets[at] as usize, self.offsets[at + 1] as usize).map(|[byte]| byte).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl TokenSource {
    /// Decodes `tokens/split` into `scratch`.
    pub fn open(tokens: &Path, split: &str, scratch: &Path) -> Result<TokenSource> {
        let folder = tokens.join(split);
        if !folder.is_dir() {
            return Err(Error::usage(format!("there is no split `{split}` in the tokens")).hint("ingest's `split:` says which splits there are"));
        }
        let provenance = Provenance::read(tokens)?;
        let mut source = TokenSource {
            folder: folder.clone(),
            ids: Spool::create(scratch, split, "ids")?,
            types: Spool::create(scratch, split, "types")?,
            documents: Spool::create(scratch, split, "documents")?,
            token_labels: Spool::create(scratch, split, "labels")?,
            row_ids: Texts::create(scratch, split, "names")?,
            offsets: vec![0],
            lengths: Vec::new(),
            labels: RowLabels::None,
            windows: None,
            task: provenance.task,
            classes: provenance.labels.len(),
            tokenization: provenance.tokenize,
        };
        if source.task == Task::QuestionAnswering {
            source.windows = Some(Windows {
                questions: Vec::new(),
                offsets: Spool::create(scratch, split, "offsets")?,
                contexts: Texts::create(scratch, split, "contexts")?,
                answers: Texts::create(scratch, split, "answers")?,
                first: Vec::new(),
            });
        }
        let (mut any_type, mut any_document) = (false, false);
        for file in files_of(&folder)? {
            for batch in TableReader::open(&file)? {
                source.add(&Columns { batch: &batch?, file: &file }, &mut any_type, &mut any_document)?;
            }
        }
        source.ids.finish(true)?;
        source.types.finish(any_type)?;
        source.documents.finish(any_document)?;
        source.token_labels.finish(true)?;
        source.row_ids.bytes.finish(true)?;
        if let Some(windows) = &mut source.windows {
            windows.offsets.finish(true)?;
            windows.contexts.bytes.finish(true)?;
            windows.answers.bytes.finish(true)?;
        }
        Ok(source)
    }

    fn add(&mut self, columns: &Columns<'_>, any_type: &mut bool, any_document: &mut bool) -> Result<()> {
        let (input_ids, masks) = (columns.list("input_ids")?, columns.list("attention_mask")?);
        let types = columns.optional("token_type_ids").map(|column| column.as_list::<i32>());
        let names = columns.get("id")?.as_string::<i32>();
        let token_labels = match self.task {
            Task::TokenClassification | Task::CausalLm => columns.optional("labels").map(|column| column.as_list::<i32>()),
            _ => None,
        };
        self.add_row_labels(columns)?;
        for row in 0..columns.batch.num_rows() {
            let mask = documents(&masks.value(row));
            // Padding on disk is not carried along: batches are padded anew, to `max_length` if so asked.
            let real = mask.iter().filter(|&&number| number != 0).count();
            for id in &input_ids.value(row).as_primitive::<Int32Type>().values()[..real] {
                self.ids.push(&id.to_le_bytes())?;
            }
            if let Some(types) = types {
                for kind in &types.value(row).as_primitive::<Int8Type>().values()[..real] {
                    *any_type |= *kind != 0;
                    self.types.push(&[*kind as u8])?;
                }
            }
            if self.task == Task::CausalLm {
                for number in &mask[..real] {
                    *any_document |= *number > 1;
                    self.documents.push(&number.to_le_bytes())?;
                }
            }
            if let Some(labels) = token_labels {
                for label in &labels.value(row).as_primitive::<Int32Type>().values()[..real] {
                    self.token_labels.push(&label.to_le_bytes())?;
                }
            }
            if let Some(windows) = &mut self.windows {
                windows.add(columns, row, real, self.lengths.len())?;
            }
            self.row_ids.push(names.value(row))?;
            self.offsets.push(self.offsets[self.offsets.len() - 1] + real as u64);
            self.lengths.push(real as u32);
        }
        Ok(())
    }

    fn add_row_labels(&mut self, columns: &Columns<'_>) -> Result<()> {
        let column = match self.task {
            Task::SequenceClassification => "label",
            Task::MultiLabelClassification => "labels",
            Task::Regression => "value",
            Task::QuestionAnswering => "start_position",
            Task::TokenClassification | Task::CausalLm => return Ok(()),
        };
        let Some(column) = columns.optional(column) else { return Ok(()) };
        if matches!(self.labels, RowLabels::None) {
            self.labels = match self.task {
                Task::MultiLabelClassification => RowLabels::Sets { ids: Vec::new(), starts: vec![0] },
                Task::Regression => RowLabels::Values(Vec::new()),
                Task::QuestionAnswering => RowLabels::Spans(Vec::new()),
                _ => RowLabels::Classes(Vec::new()),
            };
        }
        match &mut self.labels {
            RowLabels::None => {}
            RowLabels::Classes(classes) => classes.extend_from_slice(column.as_primitive::<Int64Type>().values()),
            RowLabels::Values(values) => values.extend(column.as_primitive::<Float64Type>().values().iter().map(|&value| value as f32)),
            RowLabels::Sets { ids, starts } => {
                let lists = column.as_list::<i32>();
                for row in 0..lists.len() {
                    let list = lists.value(row);
                    let of_row = list.as_primitive::<Int32Type>().values();
                    if let Some(&other) = of_row.iter().find(|&&class| class < 0 || class as usize >= self.classes) {
                        let id = columns.get("id")?.as_string::<i32>().value(row);
                        return Err(pipe_core::unknown_label(id, other.into(), self.classes));
                    }
                    ids.extend_from_slice(of_row);
                    starts.push(ids.len() as u32);
                }
            }
            RowLabels::Spans(spans) => {
                let ends = columns.get("end_position")?.as_primitive::<Int32Type>().values();
                let starts = column.as_primitive::<Int32Type>().values();
                spans.extend(starts.iter().zip(ends).map(|(&start, &end)| [start.into(), end.into()]));
            }
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// How many things may be drawn: rows, or questions with all of their windows.
    pub fn items(&self) -> usize {
        self.windows.as_ref().map_or(self.rows(), |windows| windows.first.len())
    }

    /// The rows of drawn items.
    pub fn rows_of(&self, items: Vec<usize>) -> Vec<usize> {
        let Some(windows) = &self.windows else { return items };
        let end = |question: usize| windows.first.get(question + 1).map_or(self.rows(), |&row| row as usize);
        items.into_iter().flat_map(|question| windows.first[question] as usize..end(question)).collect()
    }

    /// What the rows are for.
    pub fn task(&self) -> Task {
        self.task
    }

    /// How many items of each class some rows have: rows, or tokens.
    pub fn class_counts(&self, rows: &[usize]) -> Result<Vec<u64>> {
        let mut counts = vec![0; self.classes];
        for &row in rows {
            let classes: Vec<i64> = match self.labels_of(&[row]) {
                Labels::Classes(classes) => classes,
                _ => continue,
            };
            for class in classes {
                let count = usize::try_from(class).ok().and_then(|class| counts.get_mut(class));
                *count.ok_or_else(|| pipe_core::unknown_label(&self.row_id(row), class, self.classes))? += 1;
            }
        }
        Ok(counts)
    }

    /// What a model is to give for these rows; of tokens without the place where each stands.
    pub fn labels_of(&self, rows: &[usize]) -> Labels {
        match &self.labels {
            RowLabels::Classes(classes) => Labels::Classes(rows.iter().map(|&row| classes[row]).collect()),
            RowLabels::Values(values) => Labels::Values(rows.iter().map(|&row| values[row]).collect()),
            RowLabels::Spans(spans) => Labels::Spans(rows.iter().map(|&row| spans[row]).collect()),
            RowLabels::Sets { ids, starts } => {
                let mut flags = vec![0.0; rows.len() * self.classes];
                for (at, &row) in rows.iter().enumerate() {
                    for &class in &ids[starts[row] as usize..starts[row + 1] as usize] {
                        flags[at * self.classes + class as usize] = 1.0;
                    }
                }
                Labels::Flags(flags)
            }
            RowLabels::None if self.token_labels.is_empty() => Labels::None,
            RowLabels::None => Labels::Classes(rows.iter().flat_map(|&row| self.learned(row)).map(|(_, label)| label).collect()),
        }
    }

    /// The tokens of a row whose scores are asked for: the position that gives them, and the label. What a language model gives
    /// for a token stands at the one before.
    fn learned(&self, row: usize) -> impl Iterator<Item = (usize, i64)> {
        let (start, end) = self.range(row);
        let before = usize::from(self.task == Task::CausalLm);
        let labels = self.token_labels.get(start, end).map(i32::from_le_bytes).enumerate().skip(before);
        labels.filter(|(_, label)| *label != IGNORED).map(move |(at, label)| (at - before, label.into()))
    }

    /// Where a row's tokens stand among all.
    fn range(&self, row: usize) -> (usize, usize) {
        (self.offsets[row] as usize, self.offsets[row + 1] as usize)
    }
}

/// One batch of a file.
struct Columns<'c> {
    batch: &'c RecordBatch,
    file: &'c Path,
}

impl<'c> Columns<'c> {
    fn optional(&self, name: &str) -> Option<&'c ArrayRef> {
        self.batch.column_by_name(name)
    }

    fn get(&self, name: &str) -> Result<&'c ArrayRef> {
        self.optional(name).ok_or_else(|| Error::internal(format!("{} has no column {name}", self.file.display())))
    }

    fn list(&self, name: &str) -> Result<&'c arrow_array::ListArray> {
        Ok(self.get(name)?.as_list::<i32>())
    }
}

/// An attention mask: 8 bits where a row is one document, else 16.
fn documents(mask: &ArrayRef) -> Vec<i16> {
    match mask.as_primitive_opt::<Int16Type>() {
        Some(numbers) => numbers.values().to_vec(),
        None => mask.as_primitive::<Int8Type>().values().iter().map(|&bit| bit.into()).collect(),
    }
}

impl Windows {
    fn add(&mut self, columns: &Columns<'_>, row: usize, real: usize, row_number: usize) -> Result<()> {
        let contexts = columns.get("context")?.as_string::<i32>();
        if contexts.is_valid(row) {
            self.first.push(row_number as u32);
            self.contexts.push(contexts.value(row))?;
            let answers: Vec<String> = match columns.optional("answers") {
                Some(answers) => answers.as_list::<i32>().value(row).as_string::<i32>().iter().flatten().map(str::to_owned).collect(),
                None => Vec::new(),
            };
            self.answers.push(&serde_json::to_string(&answers).expect("plain data"))?;
        }
        self.questions.push((self.first.len() as u32).saturating_sub(1));
        for offset in &columns.list("offsets")?.value(row).as_primitive::<Int32Type>().values()[..2 * real] {
            self.offsets.push(&offset.to_le_bytes())?;
        }
        Ok(())
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
            let ((start, stop), end) = (self.range(row), (at + 1) * length);
            batch.input_ids.extend(self.ids.get(start, stop).map(|id| i64::from(i32::from_le_bytes(id))));
            batch.input_ids.resize(end, i64::from(self.tokenization.pad_token_id));
            batch.token_type_ids.extend(self.types.get(start, stop).map(|[kind]| i64::from(kind)));
            batch.token_type_ids.resize(at * length + stop - start, 0);
            batch.token_type_ids.resize(end, i64::from(self.tokenization.pad_token_type_id));
            batch.attention_mask.extend(self.documents.get(start, stop).map(|number| i64::from(i16::from_le_bytes(number))));
            batch.attention_mask.resize(at * length + stop - start, 1);
            batch.attention_mask.resize(end, 0);
        }
        if !self.token_labels.is_empty() {
            let learned =
                rows.iter().enumerate().flat_map(|(at, &row)| self.learned(row).map(move |(position, label)| (at * length + position, label)));
            let (slots, labels) = learned.map(|(slot, label)| (slot as i64, label)).unzip();
            (batch.slots, batch.labels) = (Some(slots), Labels::Classes(labels));
        } else {
            batch.labels = self.labels_of(rows);
        }
        Ok(batch)
    }

    fn row_id(&self, row: usize) -> String {
        self.row_ids.get(row)
    }

    fn column(&self, name: &str) -> Result<Vec<Option<String>>> {
        kept::column_of(&self.folder, name)
    }

    fn window(&self, row: usize) -> Option<Window> {
        let windows = self.windows.as_ref()?;
        let (start, end) = self.range(row);
        let numbers: Vec<i32> = windows.offsets.get(2 * start, 2 * end).map(i32::from_le_bytes).collect();
        let offsets = numbers.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        Some(Window { question: windows.questions[row] as usize, offsets })
    }

    fn knows_no_answer(&self) -> bool {
        self.tokenization.no_answers
    }

    fn question(&self, question: usize) -> Result<Question> {
        let windows = self.windows.as_ref().ok_or_else(|| Error::internal("rows that are no windows have no questions"))?;
        let answers = serde_json::from_str(&windows.answers.get(question)).map_err(|_| Error::internal("answers that cannot be read back"))?;
        Ok(Question { id: self.row_ids.get(windows.first[question] as usize), context: windows.contexts.get(question), answers })
    }
}
