//! Asking before something is lost.

use std::io::{self, IsTerminal as _, Write as _};

/// Makes sure that a person means it: by `--yes NAME`, or by typing the name.
///
/// # Errors
/// Another name, or nobody to ask.
pub(super) fn confirm(question: &str, name: &str, given: Option<&str>) -> anyhow::Result<()> {
    let typed = given.map_or_else(|| ask(question, name), |given| Ok(given.to_owned()))?;
    anyhow::ensure!(typed.trim() == name, "`{}` is not `{name}`: nothing was done", typed.trim());
    Ok(())
}

fn ask(question: &str, name: &str) -> anyhow::Result<String> {
    anyhow::ensure!(
        io::stdin().is_terminal() && io::stderr().is_terminal(),
        "nobody can be asked here: say --yes {name} if you mean it"
    );
    let mut prompt = io::stderr();
    write!(prompt, "{question}\nType {name} to go on: ")?;
    prompt.flush()?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    Ok(typed)
}
