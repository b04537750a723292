//! A part of a file in memory, as much of it as a record needs.

use std::io::{ErrorKind, Read, Result};

pub(super) struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// What is read and not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    ended: bool,
    block: usize,
}

impl Window {
    /// Reads `block` bytes at a time, at least.
    pub(super) fn new(input: Box<dyn Read + Send>, block: usize) -> Window {
        Window { input, buffer: Vec::new(), start: 0, end: 0, ended: false, block }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Nothing comes after [`bytes`](Window::bytes).
    pub(super) fn is_last(&self) -> bool {
        self.ended
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Reads more: at least as much as is there, unless the file ends. So whoever looks at it again from its start takes
    /// twice the time of one look, however often.
    pub(super) fn grow(&mut self) -> Result<()> {
        let held = self.end - self.start;
        let wanted = held + held.max(self.block);
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, held);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        } else if self.buffer.len() > 4 * wanted {
            // One long record must not cost its memory for the rest of the file.
            self.buffer.truncate(wanted);
            self.buffer.shrink_to_fit();
        }
        while self.end < wanted {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
