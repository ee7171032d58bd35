//! `holdfast publish`: a package of any size, by a link to the registry's bucket.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use super::{output, runtime};
use crate::client::{Client, Error, Parcel};
use crate::npm::integrity::Hasher;
use crate::npm::publish_document::NewVersion;
use crate::npm::tarball::{self, Inspection};
use crate::npm::{Digests, DistTag, PackageName, Version};
use crate::settings::{self, JobIdentity, Settings};

/// A provenance bundle is some kilobytes.
const MAX_PROVENANCE_BYTES: u64 = 4 << 20;

/// Arguments of `holdfast publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
A directory is packed by npm, so that npm's rules and scripts hold; a tarball is taken as it is. The
tarball goes to the registry's bucket by a link, which ends soon and needs no token; a registry on a
directory gets it in the publish request.

The token is the one in .npmrc for the registry, else HOLDFAST_TOKEN or NODE_AUTH_TOKEN. Without one a
job of GitHub Actions with the permission `id-token: write` (or any job with NPM_ID_TOKEN) proves who
it is, and publishes what trusts it (`npm trust`).

Examples:
  holdfast publish                                      the package in this directory
  holdfast publish ./packages/tool --tag next
  holdfast publish tool-1.0.0.tgz --registry https://npm.example/
  holdfast publish --dry-run --json                     what would be published, and where")]
pub(super) struct PublishArgs {
    /// A directory with a package.json, or a tarball that was packed before
    #[arg(value_name = "DIR | TARBALL", default_value = ".")]
    what: PathBuf,
    /// The tag that names the version [default: publishConfig.tag, else `latest`]
    #[arg(long)]
    tag: Option<DistTag>,
    /// `public` or `restricted`, as npm sends it; who may read is decided by the registry's rules
    #[arg(long, value_parser = ["public", "restricted"])]
    access: Option<String>,
    /// The registry [default: publishConfig.registry, else the one npm uses for the package's scope]
    #[arg(long, value_name = "URL")]
    registry: Option<Url>,
    /// A one-time code; asked for at a terminal when one is needed
    #[arg(long, value_name = "CODE")]
    otp: Option<String>,
    /// A provenance bundle (sigstore) that was made for this tarball
    #[arg(long, value_name = "FILE")]
    provenance_file: Option<PathBuf>,
    /// Run no scripts of the package while packing a directory
    #[arg(long)]
    ignore_scripts: bool,
    /// Pack and check, and ask no registry
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A tarball and what is in it.
struct Packed {
    file: PathBuf,
    name: PackageName,
    version: Version,
    inspection: Inspection,
    digests: Digests,
    /// Where npm packed it, to be removed.
    _folder: Option<TempDir>,
}

/// Where to publish.
struct Target {
    url: Url,
    /// The package named it, and not who runs the command: it gets no token that is not meant for its address.
    is_of_package: bool,
}

/// How the tarball went.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Link,
    Request,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    id: String,
    name: String,
    version: String,
    tag: String,
    registry: String,
    size: u64,
    unpacked_size: u64,
    files: u64,
    integrity: String,
    shasum: String,
    /// Nothing after a dry run.
    sent_by: Option<Way>,
}

pub(super) fn run(arguments: &PublishArgs) -> anyhow::Result<ExitCode> {
    let packed = packed(arguments)?;
    let target = target(arguments, &packed)?;
    let tag = tag(arguments, &packed)?;
    let parcel = parcel(arguments, &packed, &target, &tag)?;
    let sent_by = if arguments.dry_run {
        None
    } else {
        match runtime()?.block_on(publish(arguments, &packed.name, &parcel, &target)) {
            Ok(way) => Some(way),
            Err(error) => {
                let advice = error.downcast_ref().and_then(advice);
                output::failure(&error, advice.as_deref());
                return Ok(ExitCode::FAILURE);
            }
        }
    };
    let report = Report {
        id: format!("{}@{}", packed.name, packed.version),
        name: packed.name.to_string(),
        version: packed.version.to_string(),
        tag: tag.to_string(),
        registry: super::shown_url(&target.url),
        size: packed.digests.size_bytes,
        unpacked_size: packed.inspection.unpacked_bytes,
        files: packed.inspection.file_count,
        integrity: packed.digests.integrity(),
        shasum: packed.digests.shasum(),
        sent_by,
    };
    tell(arguments, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(arguments: &PublishArgs, report: &Report) -> anyhow::Result<()> {
    if arguments.json {
        return output::json(report);
    }
    let Report { id, tag, registry, size, files, .. } = report;
    if report.sent_by.is_none() {
        return Ok(output::data(&format!(
            "{id} would be published to {registry} as `{tag}`: {files} files, {size} bytes packed"
        ))?);
    }
    output::message(&format!("{files} files, {size} bytes packed, are published to {registry} as `{tag}`."));
    Ok(output::data(&format!("+ {id}"))?)
}

/// What to do about a refusal, where there is more to say than the registry did.
fn advice(error: &Error) -> Option<String> {
    match error {
        Error::Refused { code, .. } if code == "one_time_code" => Some("Give the code with `--otp CODE`.".to_owned()),
        Error::Refused { request_id, .. } if !request_id.is_empty() => {
            Some(format!("The registry's log has it under the request id {request_id}."))
        }
        Error::Bucket { status: 403, .. } => Some(
            "The link may have ended before the upload began, or the bucket's rules forbid it: try again.".to_owned(),
        ),
        _ => None,
    }
}

// What is published.

/// The tarball, made by npm if it is not there.
fn packed(arguments: &PublishArgs) -> anyhow::Result<Packed> {
    let what = &arguments.what;
    let found = std::fs::metadata(what).with_context(|| format!("`{}` cannot be read", what.display()))?;
    let (file, folder) = if found.is_dir() {
        let folder = tempfile::Builder::new().prefix("holdfast-publish-").tempdir()?;
        (pack(what, folder.path(), arguments.ignore_scripts)?, Some(folder))
    } else {
        (what.clone(), None)
    };
    let unreadable = || format!("`{}` cannot be read", file.display());
    let digests = digests(&file).with_context(unreadable)?;
    // The registry has its own limits; these keep a bomb from taking this machine along.
    let limits = Settings::default().limits.tarball;
    let inspection = tarball::inspect(File::open(&file).with_context(unreadable)?, &limits)
        .with_context(|| format!("`{}` is no package", what.display()))?;
    let text = |member: &str| inspection.manifest.get(member).and_then(Value::as_str).unwrap_or_default();
    let name = text("name").parse().context("the package.json has no good `name`")?;
    let version = text("version")
        .parse()
        .map_err(|_| anyhow::anyhow!("the package.json has no good `version`: {}", text("version")))?;
    anyhow::ensure!(
        inspection.manifest.get("private") != Some(&Value::Bool(true)),
        "the package.json says `\"private\": true`: such a package is not to be published"
    );
    Ok(Packed { file, name, version, inspection, digests, _folder: folder })
}

fn digests(file: &Path) -> io::Result<Digests> {
    let (mut file, mut hasher, mut piece) = (File::open(file)?, Hasher::default(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// Has npm make the tarball of a directory, with the scripts that npm runs before it publishes.
fn pack(directory: &Path, to: &Path, ignore_scripts: bool) -> anyhow::Result<PathBuf> {
    let mut arguments: Vec<&OsStr> = vec!["pack".as_ref(), "--pack-destination".as_ref(), to.as_ref()];
    if ignore_scripts {
        arguments.push("--ignore-scripts".as_ref());
    } else {
        npm(directory, &["run".as_ref(), "--if-present".as_ref(), "prepublishOnly".as_ref()])?;
    }
    npm(directory, &arguments)?;
    let made = std::fs::read_dir(to)?.next().transpose()?;
    Ok(made.context("npm packed nothing: this needs npm 7 or newer")?.path())
}

/// Runs npm. What it says for people, and what scripts print, goes to stderr.
fn npm(directory: &Path, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let status = Command::new("npm")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?))
        .status()
        .context("npm packs a directory, and cannot be run here: install it, or give a tarball")?;
    anyhow::ensure!(status.success(), "`npm {}` failed", arguments[0].display());
    Ok(())
}

fn publish_config<'a>(packed: &'a Packed, member: &str) -> Option<&'a str> {
    packed.inspection.manifest.get("publishConfig")?.get(member)?.as_str()
}

fn tag(arguments: &PublishArgs, packed: &Packed) -> anyhow::Result<DistTag> {
    if let Some(tag) = &arguments.tag {
        return Ok(tag.clone());
    }
    if let Some(tag) = publish_config(packed, "tag") {
        return tag.parse().with_context(|| format!("publishConfig.tag is `{tag}`"));
    }
    // As npm 11: nobody means to give everybody a prerelease.
    anyhow::ensure!(!packed.version.is_prerelease(), "{} is a prerelease: name its tag with `--tag`", packed.version);
    Ok("latest".parse()?)
}

fn target(arguments: &PublishArgs, packed: &Packed) -> anyhow::Result<Target> {
    if let Some(url) = &arguments.registry {
        return Ok(Target { url: slashed(url.clone()), is_of_package: false });
    }
    let scope = packed.name.scope().map(|scope| scope.as_str().to_owned());
    let of_scope = scope.as_ref().and_then(|scope| publish_config(packed, &format!("{scope}:registry")));
    if let Some(text) = of_scope.or_else(|| publish_config(packed, "registry")) {
        let url = text.parse().with_context(|| format!("publishConfig.registry is `{text}`"))?;
        return Ok(Target { url: slashed(url), is_of_package: true });
    }
    let found = settings::npm_registry(scope.as_deref()).context("which registry is it? Say `--registry URL`")?;
    Ok(Target { url: slashed(found.url), is_of_package: false })
}

fn slashed(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

fn parcel(arguments: &PublishArgs, packed: &Packed, target: &Target, tag: &DistTag) -> anyhow::Result<Parcel> {
    let provenance = match &arguments.provenance_file {
        Some(file) => {
            let mut text = String::new();
            let read = File::open(file).and_then(|file| file.take(MAX_PROVENANCE_BYTES).read_to_string(&mut text));
            read.with_context(|| format!("`{}` cannot be read", file.display()))?;
            Some(text)
        }
        None => None,
    };
    let new = NewVersion {
        name: &packed.name,
        version: &packed.version,
        tag,
        access: arguments.access.as_deref().or_else(|| publish_config(packed, "access")),
        inspection: &packed.inspection,
        digests: &packed.digests,
        registry: target.url.as_str(),
        provenance: provenance.as_deref(),
    };
    let size_bytes = packed.digests.size_bytes;
    Ok(Parcel {
        name: packed.name.to_string(),
        version: packed.version.to_string(),
        document: new.document(),
        attachments: new.attachments(),
        file: packed.file.clone(),
        size_bytes,
        integrity: packed.digests.integrity(),
        progress: progress(size_bytes),
    })
}

/// Tells how much has been sent, a tenth at a time, where somebody is watching.
fn progress(size_bytes: u64) -> Arc<dyn Fn(u64) + Send + Sync> {
    let (is_watched, told) = (io::stderr().is_terminal(), AtomicU64::new(0));
    Arc::new(move |sent| {
        let tenths = sent * 10 / size_bytes.max(1);
        if is_watched && told.swap(tenths, Ordering::Relaxed) != tenths {
            output::message(&format!("sent {} of {} KB", sent / 1000, size_bytes / 1000));
        }
    })
}

// Publishing it.

async fn publish(arguments: &PublishArgs, name: &PackageName, parcel: &Parcel, target: &Target) -> anyhow::Result<Way> {
    let mut client = signed_in(Client::new(target.url.clone())?, name, target).await?;
    if let Some(code) = &arguments.otp {
        client = client.with_code(code.clone());
    }
    let place = client.begin_upload(parcel).await?;
    if let Some(place) = &place {
        client.upload(parcel, place).await?;
    }
    let commit = async |client: &Client| match &place {
        Some(place) => client.commit_upload(parcel, place).await.map(|()| Way::Link),
        None => client.publish_whole(parcel).await.map(|()| Way::Request),
    };
    match commit(&client).await {
        Err(Error::Refused { code, sentence, .. }) if code == "one_time_code" && can_ask() => {
            let code = ask(&sentence)?;
            Ok(commit(&client.with_code(code)).await?)
        }
        // The token of a job lasts minutes, and the upload may have taken longer.
        Err(Error::Refused { code, .. })
            if code == "sign_in_first" && place.is_some() && is_runners_job(&client, target) =>
        {
            Ok(commit(&signed_in(client, name, target).await?).await?)
        }
        outcome => Ok(outcome?),
    }
}

fn given_token(client: &Client, target: &Target) -> Option<String> {
    let of_any_registry = || if target.is_of_package { None } else { settings::publish_token() };
    settings::npm_token(client.base()).or_else(of_any_registry)
}

/// Whether this job signs in by its identity, and can get a new one for it.
fn is_runners_job(client: &Client, target: &Target) -> bool {
    given_token(client, target).is_none() && matches!(settings::job_identity(), Some(JobIdentity::Runner { .. }))
}

/// With a token that was given, else with what this CI job is trusted with.
async fn signed_in(client: Client, name: &PackageName, target: &Target) -> anyhow::Result<Client> {
    if let Some(token) = given_token(&client, target) {
        return Ok(client.with_token(token));
    }
    let identity = match settings::job_identity() {
        Some(JobIdentity::Token(identity)) => identity,
        Some(JobIdentity::Runner { url, secret }) => client.identity(&url, &secret).await?,
        None => return Ok(client),
    };
    let token = client.exchange(name.as_str(), &identity).await?;
    Ok(client.with_token(token))
}

fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn ask(why: &str) -> anyhow::Result<String> {
    output::message(why);
    let mut prompt = io::stderr();
    prompt.write_all(b"One-time code: ")?;
    prompt.flush()?;
    let mut code = String::new();
    io::stdin().read_line(&mut code)?;
    Ok(code.trim().to_owned())
}
