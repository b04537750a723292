//! Class names, collected while rows stream by.

use std::collections::HashMap;

use pipe_core::{Error, Result};

/// More classes than this are no classes: the label column is probably free text, which must not be listed.
const MAX_CLASSES: usize = 1000;
/// Class names are listed in reports and model folders; a text must not get there.
const MAX_LABEL_CHARS: usize = 100;

pub(crate) struct Labels {
    ids: HashMap<String, u32>,
}

impl Labels {
    pub(crate) fn new() -> Labels {
        Labels { ids: HashMap::new() }
    }

    /// Numbers labels in the order in which they come.
    pub(crate) fn id_of(&mut self, label: &str) -> Result<u32> {
        if let Some(id) = self.ids.get(label) {
            return Ok(*id);
        }
        let id = self.ids.len() as u32;
        if label.chars().count() > MAX_LABEL_CHARS {
            return Err(Error::input(format!("the label column holds a value of more than {MAX_LABEL_CHARS} characters"))
                .hint("is `columns: { label: … }` the column of classes, and not a text?"));
        }
        if self.ids.len() >= MAX_CLASSES {
            return Err(Error::input(format!("the label column has more than {MAX_CLASSES} different values"))
                .hint("is `columns: { label: … }` the column of classes, and not a text or an id?"));
        }
        self.ids.insert(label.to_owned(), id);
        Ok(id)
    }

    /// Sorted class names, of those that `used` says a row is left of. Numbers sort as numbers.
    pub(crate) fn finish(self, rows: u64, column: Option<&str>, used: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut labels: Vec<String> = self.ids.into_keys().filter(|label| used(label)).collect();
        if labels.iter().all(|label| label.parse::<i64>().is_ok()) {
            // `1` and `01` are two labels: their order must not be the hash map's.
            labels.sort_by_cached_key(|label| (label.parse::<i64>().unwrap_or(0), label.clone()));
        } else {
            labels.sort();
        }
        if let Some(column) = column
            && labels.len() < 2
        {
            return Err(Error::input(format!("the label column `{column}` has only one class in {rows} rows"))
                .hint("a classifier needs at least two; is it the right column, and the whole file?"));
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(labels: &[&str]) -> Vec<String> {
        let mut all = Labels::new();
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
        let mut one = Labels::new();
        one.id_of("secret").unwrap();
        let error = one.finish(5, Some("label"), |_| true).unwrap_err();
        assert_eq!(error.class.exit_code(), 12);
        assert!(!error.message.contains("secret"));
        let mut gone = Labels::new();
        for label in ["a", "b", "c"] {
            gone.id_of(label).unwrap();
        }
        // `b` is only on rows that were dropped as duplicates.
        assert_eq!(gone.finish(5, Some("label"), |label| label != "b").unwrap(), ["a", "c"]);
        assert!(Labels::new().id_of(&"secret ".repeat(50)).is_err_and(|error| !error.message.contains("secret")));
        let mut many = Labels::new();
        let error = (0..2000).find_map(|i| many.id_of(&format!("secret {i}")).err()).unwrap();
        assert!(!error.message.contains("secret"));
    }
}
