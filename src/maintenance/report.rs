//! What a report has a line for each of, bounded.

use serde::Serialize;

/// Lines that are kept of one kind; of the others the number tells.
const MOST: usize = 1000;

/// A list of which a report shows the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Lines {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<String>,
}

impl Lines {
    /// Adds one.
    pub(super) fn push(&mut self, line: impl Into<String>) {
        self.count += 1;
        if self.first.len() < MOST {
            self.first.push(line.into());
        }
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_counted_whole_and_kept_in_part() {
        let mut lines = Lines::default();
        assert!(lines.is_empty());
        (0..MOST + 5).for_each(|number| lines.push(number.to_string()));
        assert_eq!((lines.count, lines.first.len()), (1005, 1000));
    }
}
