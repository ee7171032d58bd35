//! Pages of `docs/` that are made from the code: a page that no longer says what the code does fails here.
//!
//! `HOLDFAST_WRITE_DOCS=1 cargo test --test it docs::` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use holdfast::cli::Cli;
use holdfast::http::{Access, KINDS, routes};
use holdfast::metrics::METRICS;
use holdfast::settings::KEYS;

/// What stands on top of a page, in a comment, for whoever is about to edit it.
pub(crate) fn made_from(source: &str) -> String {
    format!(
        "<!-- Made from {source}. Do not edit: change the code, then run\n     HOLDFAST_WRITE_DOCS=1 cargo test --test it docs:: -->\n\n"
    )
}

/// Compares a page with what it should be, or writes it.
pub(crate) fn check(page: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let first_difference = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    let line = first_difference.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1;
    assert!(
        found == expected,
        "docs/{page} is not what the code says, from line {line} on. If the code is right, run:\n  \
         HOLDFAST_WRITE_DOCS=1 cargo test --test it docs::"
    );
}

/// A text within a table: a bar would end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn configuration_is_what_the_settings_say() {
    let mut page = made_from("`KEYS` in src/settings/keys.rs");
    page.push_str(CONFIGURATION);
    let mut section = "";
    for info in KEYS {
        let this = info.key.split('.').next().unwrap();
        if this != section {
            section = this;
            let title = if info.key.contains('*') { format!("{section}.NAME") } else { section.to_owned() };
            write!(page, "\n## `[{title}]`\n\n| key | default | meaning |\n| --- | --- | --- |\n").unwrap();
        }
        let key = info.key.rsplit('.').next().unwrap();
        let default = match info.default {
            "none" => "none".to_owned(),
            "found at the first start" => "for `default`: found at the first start".to_owned(),
            value if value.contains('`') => value.replace("[\"**\"]", "`[\"**\"]`"),
            value => format!("`{value}`"),
        };
        let secret = if info.is_secret { " Never shown." } else { "" };
        let restart = if info.needs_restart { " Needs a restart." } else { "" };
        writeln!(page, "| `{key}` | {} | {}{secret}{restart} |", cell(&default), cell(info.meaning)).unwrap();
    }
    check("configuration.md", &page);
}

const CONFIGURATION: &str = "# Configuration

Nothing has to be set. What is set can stand in four places; a later one wins over an earlier one:

1. `-/holdfast.toml` in the data directory, which the first start writes to remember the upstream that it found;
2. a settings file: the one that `--config FILE` or `HOLDFAST_CONFIG` names, or `holdfast.toml` in the current directory;
3. environment variables: `HOLDFAST__SECTION__KEY`, so that `HOLDFAST__SERVER__LISTEN` is `server.listen`. A list is written with commas;
4. flags: `--listen`, `--data`, `--public-url`, `--upstream`, `--no-upstream` ([cli.md](cli.md)).

`holdfast config show` prints every value and where it came from. A start with wrong settings ends with all mistakes at once; a key that does
not exist is a mistake. In the name of a variable a `-` of an upstream's name is a `_`: the token of `our-partner` is
`HOLDFAST__UPSTREAMS__OUR_PARTNER__TOKEN`.

A server that runs reads them again when the settings file changes, within two seconds, and at SIGHUP: all at once, or, with any mistake, none. The log says what
came of it, and `/-/ready` too. What needs a restart says so below. `holdfast config show` tells before whether a file is good.

```toml
[server]
listen = \"0.0.0.0:4873\"
public_url = \"https://npm.acme.example/\"
trusted_proxies = [\"10.0.0.0/8\"]

[access]
registration = \"closed\"

[packages]
claims = [\"@acme/*\"]

[upstreams.partner]
url = \"https://npm.partner.example/\"
packages = [\"@partner/*\"]
# token: HOLDFAST__UPSTREAMS__PARTNER__TOKEN
```
";

#[test]
fn http_api_is_the_route_table() {
    let mut page = made_from("the route table in src/http/router.rs");
    page.push_str(HTTP_API);
    for route in routes().table() {
        let access = match route.access {
            Access::Anybody => "anybody",
            Access::Readers => "readers",
            Access::Accounts => "accounts",
            Access::Owners => "owners",
            Access::Administrators => "administrators",
        };
        writeln!(page, "| {} | `{}` | {access} | `{}` |", route.method, route.path, route.handler).unwrap();
    }
    check("http-api.md", &page);
}

const HTTP_API: &str = "# HTTP addresses

Every address that the registry answers, in the order of the table in `src/http/router.rs`. `holdfast routes` prints the same.

- `{package}` is a name, `name` or `@scope/name`; the slash of a scoped name may be written as it is or as `%2f`. `{wanted}` is a version, a
  tag or a range. `{file}` is `name-1.0.0.tgz`, without the scope.
- `GET` answers `HEAD` too. A path that has the public URL's prefix in front is the same path.
- **Who may call**: *anybody*; *readers* are anybody, or accounts only, by `access.anonymous_read`; *accounts* have signed in; *owners* of the
  package, or any account with `access.owners_only = false`. For a package that does not exist yet every account is an owner.
- An account is shown by `Authorization: Bearer TOKEN`, or `Basic` with name and password on a line that is not open.
- Errors are JSON, see [errors.md](errors.md). Every answer has `X-Request-Id`, under which the log has the line of the request.
- The handler is `module::function`, the module is the file in `src/http/`.

| method | path | who may call | handler |
| --- | --- | --- | --- |
";

#[test]
fn errors_are_the_error_table() {
    let mut page = made_from("the table in src/http/error.rs");
    page.push_str(ERRORS);
    for kind in KINDS {
        writeln!(page, "| `{}` | {} | {} |", kind.code, kind.status.as_u16(), cell(kind.sentence)).unwrap();
    }
    check("errors.md", &page);
}

const ERRORS: &str = "# Errors

An error is JSON with the fields that the clients look for:

```json
{
  \"error\": \"There is no package `left-bad` here.\",
  \"message\": \"There is no package `left-bad` here.\",
  \"code\": \"package_not_found\",
  \"request_id\": \"0f9c1d8e6b2a4753\",
  \"ok\": false,
  \"success\": false
}
```

`error` (npm shows it) and `message` (yarn does) are the same sentence, for the person at the terminal; it is more exact than the one below
where more is known. `code` is for scripts and does not change. `request_id` is also the header `X-Request-Id`; the log has the cause under it.
An answer never holds a path of the server, a key, a credential or an upstream's address. `Retry-After` comes with errors that pass.

| code | status | what it says |
| --- | --- | --- |
";

#[test]
fn metrics_are_those_that_are_counted() {
    let mut page = made_from("`metrics!` in src/metrics.rs");
    page.push_str(FIGURES);
    for info in METRICS {
        let labels: Vec<String> = info.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{}` | {} | {} | {} |", info.name, info.kind, labels.join(" "), cell(info.meaning)).unwrap();
    }
    check("metrics.md", &page);
}

const FIGURES: &str = "# Metrics

What `/-/metrics` tells; [monitoring.md](monitoring.md) says how to read it. Times are in seconds, sizes in bytes. Of a histogram there are `_bucket`, `_sum` and `_count`. Labels are from
small fixed sets: a route is its pattern as in [http-api.md](http-api.md), a code one of [errors.md](errors.md), an upstream its name in the settings. No package, path, user or address is in any.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
";

#[test]
fn cli_is_what_the_program_says() {
    let mut page = made_from("the help of the program, src/cli/");
    page.push_str("# Command line\n\nData goes to stdout, everything for people to stderr. The exit code is 0 when all is well, 1 when not, 2 for a command line that cannot be read.\n");
    help(&mut page, Cli::description().term_width(110), &[]);
    check("cli.md", &page);
}

/// The help of a command and of those below it.
fn help(page: &mut String, mut command: clap::Command, above: &[String]) {
    let path = [above, &[command.get_name().to_owned()]].concat();
    let name = path.join(" ");
    // `render_help` would name the last part only.
    command = command.bin_name(&name);
    let text = command.render_long_help().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    write!(page, "\n## `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim()).unwrap();
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        help(page, below.clone().term_width(110), &path);
    }
}
