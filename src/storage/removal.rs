//! Emptying and removing a whole place: a directory, or a bucket with all versions of its objects, marks of deletion and
//! parts of uploads.
//!
//! Can be cut off at any point and begun again. What a service refuses to remove is passed over and told.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use md5::{Digest as _, Md5};
use object_store::signer::Method;
use quick_xml::escape::escape;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use url::Url;

use super::address::{self, BucketSettings, Location};
use super::bucket::Bucket;
use super::error::Error;
use super::local::Local;
use super::{LISTED_AHEAD, OpenError, blocking, settle};
use crate::aws::{Answer, Aws, AwsError, encoded, query};

/// What S3 removes with one request.
const BATCH: usize = 1000;
/// How often all is listed again, since somebody may still write.
const ROUNDS: usize = 3;
/// Failures that are kept word for word.
const FAILURES_KEPT: usize = 100;

/// What is to be removed.
pub struct Removal {
    place: Place,
}

enum Place {
    Directory(PathBuf),
    Versions(Box<Versions>),
    Objects(Arc<Bucket>),
}

/// What was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Removed {
    /// Objects, all versions of each.
    pub objects: u64,
    /// Marks that an object was deleted.
    pub delete_markers: u64,
    /// Uploads in parts that were never completed.
    pub uploads: u64,
    /// What could not be removed.
    pub failed: u64,
    /// The first of those, with what the service says.
    pub failures: Vec<String>,
    /// The bucket or the directory itself is gone.
    pub is_place_gone: bool,
    /// Why it is not, where it was to go.
    pub place_remains: Option<String>,
}

impl Removed {
    fn fail(&mut self, what: &str, why: &str) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(format!("{what}: {why}"));
        }
    }
}

impl Removal {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// Settings of a bucket that do not go together.
    pub fn of(location: &Location) -> Result<Self, OpenError> {
        let place = match location {
            Location::Directory(directory) => Place::Directory(directory.clone()),
            Location::Bucket(settings) => match address::administration(settings)? {
                Some((aws, base)) => Place::Versions(Box::new(Versions::new(aws, base, settings)?)),
                None => Place::Objects(Arc::new(Bucket::connect(settings)?)),
            },
        };
        Ok(Self { place })
    }

    /// Removes all there is, or only counts it. A directory must have no owner; of a bucket with a prefix only what is below
    /// it goes. `progress` is told how many are done, and what was last.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::NotFound`] when there is no such place; what the place did not do.
    pub async fn run(&self, dry_run: bool, progress: &mut impl FnMut(u64, &str)) -> Result<Removed, Error> {
        match &self.place {
            Place::Directory(directory) => remove_directory(directory, dry_run, progress).await,
            Place::Versions(versions) => versions.run(dry_run, progress).await,
            Place::Objects(bucket) => {
                let mut removed = Removed::default();
                bucket.empty(dry_run, &mut removed, progress).await?;
                removed.place_remains = Some("remove the bucket itself with the tools of its service".to_owned());
                Ok(removed)
            }
        }
    }
}

async fn remove_directory(
    directory: &Path,
    dry_run: bool,
    progress: &mut impl FnMut(u64, &str),
) -> Result<Removed, Error> {
    let root = directory.to_owned();
    // Nobody may start a server on it meanwhile. Owning would make one that is not there.
    let owned = blocking(move || {
        fs::metadata(&root)?;
        if dry_run { Local::open_reading(&root) } else { Local::open(&root) }
    })
    .await?;
    let (sender, mut files) = mpsc::channel(LISTED_AHEAD);
    let root = directory.to_owned();
    let walk = spawn_blocking(move || -> Result<(), Error> {
        // Packages first: whoever looks meanwhile finds none without its tarballs.
        walk(&root, &root, dry_run, &sender)?;
        if !dry_run {
            fs::remove_file(root.join("-/lock"))?;
            fs::remove_dir(root.join("-"))?;
            fs::remove_dir(&root)?;
        }
        drop(owned);
        Ok(())
    });
    let mut removed = Removed::default();
    while let Some(file) = files.recv().await {
        removed.objects += 1;
        progress(removed.objects, &file);
    }
    walk.await.map_err(|error| Error::Unavailable(io::Error::other(error)))??;
    removed.is_place_gone = !dry_run;
    Ok(removed)
}

/// Removes what lies below a folder, but for the lock and the folder that it is in.
fn walk(root: &Path, folder: &Path, dry_run: bool, found: &mpsc::Sender<String>) -> Result<(), Error> {
    let own = root.join("-");
    let mut entries: Vec<fs::DirEntry> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    // Of the root, what is below `-/` goes last.
    entries.sort_by_key(|entry| entry.path() == own);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(root, &path, dry_run, found)?;
            if !dry_run && path != own {
                fs::remove_dir(&path)?;
            }
        } else if path != own.join("lock") {
            if !dry_run {
                fs::remove_file(&path)?;
            }
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            // Whoever no longer wants to know does not stop it.
            let _ = found.blocking_send(shown);
        }
    }
    Ok(())
}

impl Bucket {
    /// Removes all objects, where the service has no versions that we know of.
    async fn empty(
        &self,
        dry_run: bool,
        removed: &mut Removed,
        progress: &mut impl FnMut(u64, &str),
    ) -> Result<(), Error> {
        let listed = self.all_paths();
        let mut gone = if dry_run { listed } else { self.delete_all(listed) };
        while let Some(path) = gone.next().await {
            match path {
                Ok(path) => {
                    removed.objects += 1;
                    progress(removed.objects, path.as_ref());
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) if dry_run => return Err(error.into()),
                Err(error) => removed.fail("an object", &Error::from(error).to_string()),
            }
        }
        Ok(())
    }
}

/// A bucket of S3, at the level of versions.
struct Versions {
    aws: Aws,
    /// The bucket's own address.
    base: Url,
    bucket: Bucket,
    prefix: String,
    attempts: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VersionsPage {
    is_truncated: bool,
    encoding_type: Option<String>,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(rename = "Version")]
    versions: Vec<VersionOf>,
    #[serde(rename = "DeleteMarker")]
    markers: Vec<VersionOf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionOf {
    key: String,
    version_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct UploadsPage {
    is_truncated: bool,
    encoding_type: Option<String>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(rename = "Upload")]
    uploads: Vec<UploadOf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadOf {
    key: String,
    upload_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeleteResult {
    #[serde(rename = "Error")]
    errors: Vec<Refusal>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Refusal {
    key: String,
    code: String,
    message: String,
}

impl Versions {
    fn new(aws: Aws, base: Url, settings: &BucketSettings) -> Result<Self, OpenError> {
        let bucket = Bucket::connect(settings)?;
        let prefix = bucket.prefix().to_owned();
        Ok(Self { aws, base, bucket, prefix, attempts: settings.attempts })
    }

    async fn run(&self, dry_run: bool, progress: &mut impl FnMut(u64, &str)) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        for _ in 0..ROUNDS {
            let before = removed.objects + removed.delete_markers;
            removed.failed = 0;
            removed.failures.clear();
            if !self.remove_versions(dry_run, &mut removed, progress).await? {
                // A service without versions.
                self.bucket.empty(dry_run, &mut removed, progress).await?;
                break;
            }
            if dry_run || removed.objects + removed.delete_markers == before {
                break;
            }
        }
        self.abort_uploads(dry_run, &mut removed, progress).await?;
        if !dry_run && self.prefix.is_empty() && removed.failed == 0 {
            self.remove_bucket(&mut removed).await?;
        }
        Ok(removed)
    }

    /// False when the service does not know versions.
    async fn remove_versions(
        &self,
        dry_run: bool,
        removed: &mut Removed,
        progress: &mut impl FnMut(u64, &str),
    ) -> Result<bool, Error> {
        let (mut key_marker, mut version_marker) = (String::new(), String::new());
        loop {
            let mut parameters =
                vec![("encoding-type", "url"), ("max-keys", "1000"), ("prefix", &self.prefix), ("versions", "")];
            if !key_marker.is_empty() {
                parameters.push(("key-marker", &key_marker));
                parameters.push(("version-id-marker", &version_marker));
            }
            let answer = self.ask(Method::GET, &query(&parameters), None).await?;
            if matches!(answer.status, 400 | 405 | 501) {
                return Ok(false);
            }
            let page: VersionsPage = read(&expect(answer, &[200])?)?;
            let (objects, markers) = (page.versions.len() as u64, page.markers.len() as u64);
            let decode = |text: String| decoded(text, page.encoding_type.as_deref());
            let all: Vec<VersionOf> = (page.versions.into_iter().chain(page.markers))
                .map(|one| VersionOf { key: decode(one.key), ..one })
                .collect();
            let failed_before = removed.failed;
            if !dry_run {
                for batch in all.chunks(BATCH) {
                    self.delete(batch, removed).await?;
                }
            }
            removed.objects += objects.saturating_sub(removed.failed - failed_before);
            removed.delete_markers += markers;
            let last = all.last().map_or("", |one| one.key.as_str());
            progress(removed.objects + removed.delete_markers, last);
            let (Some(key), true) = (page.next_key_marker, page.is_truncated) else { return Ok(true) };
            key_marker = decode(key);
            version_marker = page.next_version_id_marker.unwrap_or_default();
        }
    }

    /// Removes up to a thousand versions with one request, those apart whose keys no XML can carry.
    async fn delete(&self, versions: &[VersionOf], removed: &mut Removed) -> Result<(), Error> {
        let (odd, versions): (Vec<_>, Vec<_>) = versions.iter().partition(|one| one.key.contains(char::is_control));
        for VersionOf { key, version_id } in odd {
            let version = version_id.as_deref().unwrap_or("null");
            let answer = self.repeat(Method::DELETE, &self.address_of(key, &[("versionId", version)]), None).await?;
            if !matches!(answer.status, 200 | 204 | 404) {
                removed.fail(key, &refusal(&answer));
            }
        }
        if versions.is_empty() {
            return Ok(());
        }
        let mut body = String::from("<Delete><Quiet>true</Quiet>");
        for VersionOf { key, version_id } in versions {
            body.push_str("<Object><Key>");
            body.push_str(&escape(key.as_str()));
            body.push_str("</Key>");
            if let Some(version) = version_id {
                body.push_str("<VersionId>");
                body.push_str(&escape(version.as_str()));
                body.push_str("</VersionId>");
            }
            body.push_str("</Object>");
        }
        body.push_str("</Delete>");
        let answer = expect(self.ask(Method::POST, "delete=", Some(body.into())).await?, &[200])?;
        let result: DeleteResult = read(&answer)?;
        for Refusal { key, code, message } in result.errors {
            removed.fail(&key, &format!("{code} {message}"));
        }
        Ok(())
    }

    async fn abort_uploads(
        &self,
        dry_run: bool,
        removed: &mut Removed,
        progress: &mut impl FnMut(u64, &str),
    ) -> Result<(), Error> {
        let (mut key_marker, mut id_marker) = (String::new(), String::new());
        loop {
            let mut parameters = vec![("encoding-type", "url"), ("prefix", &self.prefix), ("uploads", "")];
            if !key_marker.is_empty() {
                parameters.push(("key-marker", &key_marker));
                parameters.push(("upload-id-marker", &id_marker));
            }
            let answer = self.ask(Method::GET, &query(&parameters), None).await?;
            if matches!(answer.status, 400 | 405 | 501) {
                return Ok(());
            }
            let page: UploadsPage = read(&expect(answer, &[200])?)?;
            for UploadOf { key, upload_id } in page.uploads {
                let key = decoded(key, page.encoding_type.as_deref());
                if !dry_run {
                    let url = self.address_of(&key, &[("uploadId", &upload_id)]);
                    let answer = self.repeat(Method::DELETE, &url, None).await?;
                    if !matches!(answer.status, 200 | 204 | 404) {
                        removed.fail(&key, &refusal(&answer));
                        continue;
                    }
                }
                removed.uploads += 1;
                progress(removed.objects + removed.delete_markers + removed.uploads, &key);
            }
            let (Some(key), true) = (page.next_key_marker, page.is_truncated) else { return Ok(()) };
            key_marker = decoded(key, page.encoding_type.as_deref());
            id_marker = page.next_upload_id_marker.unwrap_or_default();
        }
    }

    async fn remove_bucket(&self, removed: &mut Removed) -> Result<(), Error> {
        let answer = self.ask(Method::DELETE, "", None).await?;
        match answer.status {
            200 | 204 | 404 => removed.is_place_gone = true,
            _ => removed.place_remains = Some(refusal(&answer)),
        }
        Ok(())
    }

    fn address_of(&self, key: &str, parameters: &[(&str, &str)]) -> Url {
        let path: Vec<String> = key.split('/').map(encoded).collect();
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{}", self.base.path().trim_end_matches('/'), path.join("/")));
        url.set_query(Some(&query(parameters)));
        url
    }

    /// A request about the bucket.
    async fn ask(&self, method: Method, query: &str, body: Option<Bytes>) -> Result<Answer, Error> {
        let mut url = self.base.clone();
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        self.repeat(method, &url, body).await
    }

    /// All that is asked for here can be asked for again.
    async fn repeat(&self, method: Method, url: &Url, body: Option<Bytes>) -> Result<Answer, Error> {
        let body = body.unwrap_or_default();
        let mut headers = Vec::new();
        if !body.is_empty() {
            headers.push(("content-md5", STANDARD.encode(Md5::digest(&body))));
            headers.push(("content-type", "application/xml".to_owned()));
        }
        let mut tries = 0;
        loop {
            let sent = self.aws.send("s3", method.clone(), url, &headers, body.clone()).await;
            tries += 1;
            match sent {
                Ok(answer) if answer.status != 501 && answer.status >= 500 && tries < self.attempts => {}
                Ok(answer) => return Ok(answer),
                Err(AwsError::Request(_)) if tries < self.attempts => {}
                Err(error @ AwsError::Credentials(_)) => return Err(Error::Denied(io::Error::other(error))),
                Err(error) => return Err(Error::Unavailable(io::Error::other(error))),
            }
            settle::pause(tries).await;
        }
    }
}

/// A key as it is; services may send it encoded, so that XML can carry it.
fn decoded(text: String, encoding: Option<&str>) -> String {
    if encoding != Some("url") {
        return text;
    }
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn expect(answer: Answer, statuses: &[u16]) -> Result<Answer, Error> {
    match answer.status {
        status if statuses.contains(&status) => Ok(answer),
        404 => Err(Error::NotFound),
        401 | 403 => Err(Error::Denied(io::Error::other(refusal(&answer)))),
        _ => Err(Error::Unavailable(io::Error::other(refusal(&answer)))),
    }
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    let wrong =
        |error: &dyn std::fmt::Display| Error::Unavailable(io::Error::other(format!("its answer is odd: {error}")));
    let text = std::str::from_utf8(&answer.body).map_err(|error| wrong(&error))?;
    quick_xml::de::from_str(text).map_err(|error| wrong(&error))
}

/// What a service says of a refusal.
fn refusal(answer: &Answer) -> String {
    let said = std::str::from_utf8(&answer.body).ok().and_then(|text| quick_xml::de::from_str::<Refusal>(text).ok());
    match said {
        Some(Refusal { code, message, .. }) => format!("{} {code} {message}", answer.status),
        None => format!("status {}", answer.status),
    }
}
