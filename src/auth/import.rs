//! Taking over the accounts of an htpasswd file, as Verdaccio and Apache keep them. Hashes come along as they are and are
//! brought to today's form when their owners sign in.

use super::{Auth, Error, htpasswd};

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Imported {
    /// Accounts that were made.
    pub made: Vec<String>,
    /// Lines that were not taken.
    pub left_out: Vec<NotImported>,
}

/// A line that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NotImported {
    /// Counted from 1.
    pub line: usize,
    /// For people.
    pub why: String,
}

/// The accounts that an htpasswd file has, without making them.
pub fn read_htpasswd(text: &str) -> Imported {
    let (entries, mistakes) = htpasswd::parse(text);
    Imported { made: entries.into_iter().map(|entry| entry.name).collect(), left_out: not_imported(mistakes) }
}

fn not_imported(mistakes: Vec<htpasswd::Mistake>) -> Vec<NotImported> {
    mistakes.into_iter().map(|mistake| NotImported { line: mistake.line, why: mistake.why }).collect()
}

impl Auth {
    /// Makes the accounts of an htpasswd file. Those that are there already stay as they are, so that it can be repeated.
    pub async fn import_htpasswd(&self, text: &str) -> Result<Imported, Error> {
        let (entries, mistakes) = htpasswd::parse(text);
        let mut imported = Imported { left_out: not_imported(mistakes), ..Imported::default() };
        for entry in entries {
            let why = match self.create_with_hash(&entry.name, entry.hash, "").await {
                Ok(account) => {
                    imported.made.push(account.name);
                    continue;
                }
                Err(Error::NameTaken(name)) => format!("the user name `{name}` is taken"),
                Err(Error::BadName) => "the user name is not allowed".to_owned(),
                Err(error) => return Err(error),
            };
            imported.left_out.push(NotImported { line: entry.line, why });
        }
        imported.left_out.sort_by_key(|line| line.line);
        Ok(imported)
    }
}
