//! What rows are labelled with: class names, collected while rows stream by, and what tells two rows' labels apart.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, StringArray};
use arrow_schema::DataType;
use pipe_core::{Error, Result};

use crate::scrub::{Personal, Scrubber};

/// More classes than this are no classes: the label column is probably free text, which must not be listed.
const MAX_CLASSES: usize = 1000;
/// Class names are listed in reports and model folders; a text must not get there.
const MAX_LABEL_CHARS: usize = 100;

/// The classes of rows, in a column with one each or with lists of them.
pub(crate) enum Classes<'b> {
    One(&'b StringArray),
    Many(&'b ListArray, &'b StringArray),
}

impl<'b> Classes<'b> {
    /// Absent for a column that holds no names.
    pub(crate) fn of(array: &'b ArrayRef) -> Option<Classes<'b>> {
        match array.data_type() {
            DataType::Utf8 => Some(Classes::One(array.as_string())),
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                Some(Classes::Many(lists, lists.values().as_string_opt()?))
            }
            _ => None,
        }
    }

    /// Those of one row, in their order. What is null is none.
    pub(crate) fn of_row(&self, row: usize) -> impl Iterator<Item = &'b str> {
        let (names, range) = match *self {
            Classes::One(names) => (names, row..row + 1),
            Classes::Many(lists, names) if lists.is_valid(row) => {
                (names, lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize)
            }
            Classes::Many(_, names) => (names, 0..0),
        };
        range.filter(|at| names.is_valid(*at)).map(|at| names.value(at))
    }
}

/// What rows are labelled with, in a batch of a shard.
pub(super) enum Target<'b> {
    Classes(Classes<'b>),
    Value(&'b PrimitiveArray<Float64Type>),
}

impl<'b> Target<'b> {
    pub(super) fn of(array: &'b ArrayRef) -> Target<'b> {
        Classes::of(array).map_or_else(|| Target::Value(array.as_primitive()), Target::Classes)
    }

    /// What is the same for rows that are labelled alike: the class's number, or else a digest of the whole. One of 32 bits
    /// will do, since only the few rows of one text are ever held against one another.
    pub(super) fn of_row(&self, row: usize, labels: &mut Labels) -> Result<u32> {
        let mut hasher = blake3::Hasher::new();
        match self {
            Target::Classes(Classes::One(names)) => return labels.id_of(names.value(row)),
            Target::Classes(classes) => {
                for class in classes.of_row(row) {
                    labels.id_of(class)?;
                    hasher.update(&(class.len() as u64).to_le_bytes()).update(class.as_bytes());
                }
            }
            Target::Value(values) => drop(hasher.update(&values.value(row).to_bits().to_le_bytes())),
        }
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        Ok(u32::from_le_bytes([a, b, c, d]))
    }
}

pub(crate) struct Labels {
    ids: HashMap<String, u32>,
    /// For messages.
    role: &'static str,
}

impl Labels {
    /// `role` is `label`, `labels` or `tags`.
    pub(crate) fn new(role: &'static str) -> Labels {
        Labels { ids: HashMap::new(), role }
    }

    /// Numbers labels in the order in which they come.
    pub(crate) fn id_of(&mut self, label: &str) -> Result<u32> {
        if let Some(id) = self.ids.get(label) {
            return Ok(*id);
        }
        let id = self.ids.len() as u32;
        if label.chars().count() > MAX_LABEL_CHARS {
            return Err(Error::input(format!("the {} column holds a value of more than {MAX_LABEL_CHARS} characters", self.role))
                .hint(format!("is `columns: {{ {}: … }}` the column of classes, and not a text?", self.role)));
        }
        if self.ids.len() >= MAX_CLASSES {
            return Err(Error::input(format!("the {} column has more than {MAX_CLASSES} different values", self.role))
                .hint(format!("is `columns: {{ {}: … }}` the column of classes, and not a text or an id?", self.role)));
        }
        self.ids.insert(label.to_owned(), id);
        Ok(id)
    }

    /// Sorted class names, of those that `used` says a row is left of. Numbers sort as numbers. `column` is the source's name
    /// for them, where there must be some.
    pub(crate) fn finish(self, rows: u64, column: Option<&str>, used: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let role = self.role;
        let mut labels: Vec<String> = self.ids.into_keys().filter(|label| used(label)).collect();
        if labels.iter().all(|label| label.parse::<i64>().is_ok()) {
            // `1` and `01` are two labels: their order must not be the hash map's.
            labels.sort_by_cached_key(|label| (label.parse::<i64>().unwrap_or(0), label.clone()));
        } else {
            labels.sort();
        }
        // A row that has any number of classes may have one or not: one each tells nothing.
        let least = if role == "labels" { 1 } else { 2 };
        if let Some(column) = column
            && labels.len() < least
        {
            let (few, hint) = match least {
                1 => ("no class", "there is nothing to learn from rows without any; is it the right column, and the whole file?"),
                _ => ("only one class", "a classifier needs at least two; is it the right column, and the whole file?"),
            };
            return Err(Error::input(format!("the {role} column `{column}` has {few} in {rows} rows")).hint(hint));
        }
        Ok(labels)
    }
}

/// Classes that a chunk has met.
pub(super) struct KnownClasses {
    /// What the merge of chunks will refuse must not get into the store.
    classes: Labels,
    /// Which class names hold personal data.
    personal: HashMap<String, Personal>,
}

impl KnownClasses {
    /// `role` is as that of [`Labels::new`].
    pub(super) fn new(role: &'static str) -> KnownClasses {
        KnownClasses { classes: Labels::new(role), personal: HashMap::new() }
    }

    /// Each class is looked into once.
    pub(super) fn personal(&mut self, class: &str, scrubber: &Scrubber) -> Result<Personal> {
        if let Some(personal) = self.personal.get(class) {
            return Ok(*personal);
        }
        let personal = scrubber.personal(class)?;
        self.classes.id_of(class)?;
        self.personal.insert(class.to_owned(), personal);
        Ok(personal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(labels: &[&str]) -> Vec<String> {
        let mut all = Labels::new("label");
        for label in labels {
            all.id_of(label).unwrap();
        }
        all.finish(9, Some("label"), |_| true).unwrap()
    }

    #[test]
    fn labels_sort_as_words_or_as_numbers() {
        assert_eq!(sorted(&["pos", "neg", "pos"]), ["neg", "pos"]);
        assert_eq!(sorted(&["10", "9", "-1"]), ["-1", "9", "10"]);
        assert_eq!(sorted(&["1", "01", "001"]), ["001", "01", "1"]);
    }

    #[test]
    fn one_class_or_free_text_is_refused_without_quoting_it() {
        let mut one = Labels::new("label");
        one.id_of("secret").unwrap();
        let error = one.finish(5, Some("label"), |_| true).unwrap_err();
        assert_eq!(error.class.exit_code(), 12);
        assert!(!error.message.contains("secret"));
        let mut several = Labels::new("labels");
        several.id_of("secret").unwrap();
        assert_eq!(several.finish(5, Some("marks"), |_| true).unwrap(), ["secret"]);
        assert_eq!(Labels::new("labels").finish(5, Some("marks"), |_| true).unwrap_err().message, "the labels column `marks` has no class in 5 rows");
        let mut gone = Labels::new("label");
        for label in ["a", "b", "c"] {
            gone.id_of(label).unwrap();
        }
        // `b` is only on rows that were dropped as duplicates.
        assert_eq!(gone.finish(5, Some("label"), |label| label != "b").unwrap(), ["a", "c"]);
        assert!(Labels::new("label").id_of(&"secret ".repeat(50)).is_err_and(|error| !error.message.contains("secret")));
        let mut many = Labels::new("label");
        let error = (0..2000).find_map(|i| many.id_of(&format!("secret {i}")).err()).unwrap();
        assert!(!error.message.contains("secret"));
    }
}
