//! What came in and what did not, for people and for scripts.

use serde::Serialize;

use super::Came;
use crate::npm::PackageName;

/// Lines of one kind that are told; of more only the number.
const MAX_LINES: usize = 10_000;

/// What came of bringing packages in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Nothing was written: the rest says what would be.
    pub dry_run: bool,
    /// Packages of which something came in.
    pub packages: usize,
    /// Versions that came in.
    pub versions: usize,
    /// Packages of which nothing had to come in.
    pub already: usize,
    /// Packages that are copies of another registry's, and stay there.
    pub copies: Vec<String>,
    /// What could not come in.
    pub problems: Vec<Line>,
    /// What is worth a look, and did not keep anything out.
    pub notes: Vec<Line>,
    /// Lines that are left out above, of each kind all but the first ten thousand.
    pub untold: usize,
}

/// One thing about a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Line {
    /// The package, as it is written there.
    pub package: String,
    /// Its version, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is the matter, as a clause.
    pub why: String,
}

impl Report {
    /// True when something needs a person.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Adds something that could not come in.
    pub fn problem(&mut self, package: &str, version: Option<String>, why: String) {
        self.untold += push(&mut self.problems, Line { package: package.to_owned(), version, why });
    }

    pub(super) fn add(&mut self, name: &PackageName, came: Came) {
        let Came { is_copy, versions, is_changed, problems, notes } = came;
        if is_copy {
            self.untold += push(&mut self.copies, name.to_string());
        } else if is_changed {
            self.packages += 1;
            self.versions += versions;
        } else if problems.is_empty() {
            self.already += 1;
        }
        for (version, why) in problems {
            self.problem(name.as_str(), version, why);
        }
        for (version, why) in notes {
            self.untold += push(&mut self.notes, Line { package: name.to_string(), version, why });
        }
    }

    /// Brings the lines in order, since packages are done as they come.
    pub(super) fn sort(&mut self) {
        self.copies.sort_unstable();
        self.problems.sort_unstable();
        self.notes.sort_unstable();
    }
}

/// One when there is no room.
fn push<T>(lines: &mut Vec<T>, line: T) -> usize {
    if lines.len() < MAX_LINES {
        lines.push(line);
        return 0;
    }
    1
}
