//! Objects of a bucket: S3 and what speaks it, Google Cloud Storage, Azure Blob, or memory.
//!
//! A document is changed by a write that the store does only if nothing changed since it was read (`settle.rs` says what
//! an unclear answer means). Reads are strong: what a write acknowledged is what every reader sees from then on, whichever
//! process it asks. `object_store` repeats requests that failed before they reached the store, and reads; the limits are
//! ours, since its own (3 minutes, 30 s for a body) fit neither a function nor a slow client.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMultipartOptions, PutPayload, UpdateVersion,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use url::Url;

use super::ByteRange;
use super::address::{self, BucketSettings};
use super::at_rest::{AtRest, AtRestClient};
use super::conditions::Conditions;
use super::error::Error;
use crate::keys::{self, Key};
use crate::random;

/// The member of an object's metadata that names its latest writes, see [`Stamp`].
const WRITES: &str = "holdfast-writes";
/// How many writes an object remembers: more than writers that can come between a write and a look at what came of it.
/// Sixty-four of them take 832 of the 2,048 bytes that S3 gives metadata.
const WRITES_REMEMBERED: usize = 64;
/// Parts of a large object. All stores take parts of this size, and some want all but the last to be equal.
const PART_BYTES: u64 = 8 << 20;
/// Parts that are under way at once: with [`PART_BYTES`] what an upload holds in memory.
const PARTS_AT_ONCE: usize = 3;
/// What a body may take beyond the time for its head, in bytes a second.
const SLOWEST_BYTES: u64 = 256 * 1024;
/// How often a body that breaks off is taken up again without a byte in between.
const RESUMPTIONS: u32 = 5;

/// A bucket, and the part of it that is ours.
#[derive(Debug)]
pub(super) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    /// Before each key; empty, or with a slash at its end.
    prefix: String,
    /// What a write by a link has to say.
    pub(super) writing_headers: &'static [(&'static str, &'static str)],
    /// How the bucket is called in messages.
    pub(super) name: String,
    /// For one request, from its start to the head of its answer.
    timeout: Duration,
    /// How often an unclear write is looked after.
    pub(super) attempts: u32,
    cache_class: Option<String>,
    pub(super) single_writer: bool,
    /// Where uploads are staged, and derived files lie. Goes away with the process.
    pub(super) scratch: TempDir,
    pub(super) conditions: OnceCell<Conditions>,
    pub(super) at_rest: Option<AtRestClient>,
}

/// Which state of an object was seen.
///
/// Every conditional write has a random name, and leaves in the object's metadata the names of the latest writes, its own
/// first: so that who got no clear answer finds out whether his write was done, even when others have written since.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamp {
    etag: Option<String>,
    version: Option<String>,
    writes: Vec<String>,
}

/// An object as it was read.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The whole object.
    pub bytes: Bytes,
    /// Which state this is.
    pub stamp: Stamp,
}

impl Stamp {
    fn of(meta: &ObjectMeta, attributes: &Attributes) -> Self {
        let writes = attributes.get(&Attribute::Metadata(WRITES.into()));
        let writes = writes.map(|text| text.split(' ').map(ToOwned::to_owned).collect()).unwrap_or_default();
        Self { etag: meta.e_tag.clone(), version: meta.version.clone(), writes }
    }

    /// Whether a write is among the latest.
    pub(super) fn has_write(&self, name: &str) -> bool {
        self.writes.iter().any(|write| write == name)
    }

    /// The name of the write that left this state.
    pub(super) fn latest_write(&self) -> Option<&String> {
        self.writes.first()
    }

    /// What the store calls this state.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Whether this is the same state of the object.
    pub(super) fn is(&self, other: &Self) -> bool {
        (&self.etag, &self.version) == (&other.etag, &other.version)
    }

    /// For the condition of a write.
    pub(super) fn update_version(&self) -> UpdateVersion {
        UpdateVersion { e_tag: self.etag.clone(), version: self.version.clone() }
    }

    /// The state that a write on top of this one leaves, but for what the store will call it.
    pub(super) fn after(&self, write: &str) -> Self {
        let earlier = self.writes.iter().take(WRITES_REMEMBERED - 1).cloned();
        let writes = std::iter::once(write.to_owned()).chain(earlier).collect();
        Self { etag: None, version: None, writes }
    }

    /// With what the store calls it.
    pub(super) fn at(self, version: UpdateVersion) -> Self {
        Self { etag: version.e_tag, version: version.version, writes: self.writes }
    }
}

impl Bucket {
    /// Makes the client. Asks nothing of the store.
    pub(super) fn connect(settings: &BucketSettings) -> Result<Self, address::AddressError> {
        let address::Connection { objects, signer, prefix, writing_headers, at_rest } = address::connect(settings)?;
        let mut scratch = tempfile::Builder::new();
        scratch.prefix("holdfast-");
        let scratch = match &settings.staging {
            Some(folder) => scratch.tempdir_in(folder),
            None => scratch.tempdir(),
        };
        Ok(Self {
            objects,
            signer,
            prefix,
            writing_headers,
            name: settings.shown(),
            timeout: settings.timeout,
            attempts: settings.attempts,
            cache_class: settings.cache_class.clone(),
            single_writer: settings.single_writer,
            scratch: scratch.map_err(address::AddressError::Staging)?,
            conditions: OnceCell::new(),
            at_rest,
        })
    }

    fn path(&self, key: &Key) -> Result<Path, Error> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|error| Error::Unavailable(io::Error::other(error)))
    }

    /// A request with its limit, which grows with what is sent.
    async fn limited<T>(
        &self,
        sent_bytes: u64,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, object_store::Error> {
        let limit = self.timeout + Duration::from_secs(sent_bytes / SLOWEST_BYTES);
        tokio::time::timeout(limit, request).await.unwrap_or_else(|_| {
            Err(object_store::Error::Generic {
                store: "storage",
                source: Box::new(io::Error::from(io::ErrorKind::TimedOut)),
            })
        })
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult, Error> {
        let path = self.path(key)?;
        self.limited(0, self.objects.get_opts(&path, options)).await.map_err(|error| no_conflict(error.into()))
    }

    /// The whole object and which state it is.
    pub(super) async fn snapshot(&self, key: &Key) -> Result<Snapshot, Error> {
        let result = self.get(key, GetOptions::default()).await?;
        let stamp = Stamp::of(&result.meta, &result.attributes);
        Ok(Snapshot { bytes: result.bytes().await?, stamp })
    }

    /// The object if it is another than the one that was seen, in one conditional request.
    pub(super) async fn snapshot_unless(
        &self,
        key: &Key,
        seen: Option<&Stamp>,
        most_bytes: u64,
    ) -> Result<Option<Snapshot>, Error> {
        let path = self.path(key)?;
        let if_none_match = seen.and_then(|seen| seen.etag.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        match self.limited(0, self.objects.get_opts(&path, options)).await {
            Ok(result) if result.meta.size > most_bytes => Err(Error::TooLarge),
            Ok(result) => {
                let stamp = Stamp::of(&result.meta, &result.attributes);
                Ok(Some(Snapshot { bytes: result.bytes().await?, stamp }))
            }
            Err(object_store::Error::NotModified { .. }) => Ok(None),
            Err(error) => Err(no_conflict(error.into())),
        }
    }

    /// Opens an object for streaming, with one request: its bytes are under way when this returns.
    pub(super) async fn open_object(self: &Arc<Self>, key: &Key) -> Result<ObjectReader, Error> {
        let result = self.get(key, GetOptions::default()).await?;
        let meta = result.meta.clone();
        let etag = meta.e_tag.as_deref().unwrap_or_default().trim_start_matches("W/").trim_matches('"');
        let etag = format!("\"{etag}\"").into();
        let body = result.into_stream().map_err(Error::from).boxed();
        Ok(ObjectReader { bucket: Arc::clone(self), key: key.clone(), meta, etag, body: Mutex::new(Some(body)) })
    }

    async fn open_part(&self, key: &Key, etag: Option<&str>, range: ByteRange) -> Result<ObjectBody, Error> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.start..range.end)),
            // Never the rest of another object.
            if_match: etag.map(ToOwned::to_owned),
            ..GetOptions::default()
        };
        Ok(self.get(key, options).await?.into_stream().map_err(Error::from).boxed())
    }

    fn attributes(&self, key: &Key, stamp: Option<&Stamp>) -> Attributes {
        let mut attributes = Attributes::new();
        let is_json = key.as_str().rsplit_once('.').is_some_and(|(_, kind)| kind == "json");
        let content_type = if is_json { "application/json" } else { "application/octet-stream" };
        attributes.insert(Attribute::ContentType, content_type.into());
        if let Some(stamp) = stamp {
            attributes.insert(Attribute::Metadata(WRITES.into()), stamp.writes.join(" ").into());
        }
        if let Some(class) = self.cache_class.as_ref().filter(|_| key.is_cached()) {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    /// One write, once, with whatever the store answers.
    pub(super) async fn put(
        &self,
        key: &Key,
        bytes: Bytes,
        mode: object_store::PutMode,
        stamp: Option<&Stamp>,
    ) -> Result<UpdateVersion, object_store::Error> {
        let path = self.path(key).map_err(|_| object_store::Error::NotImplemented {
            operation: format!("the key {key}"),
            implementer: self.name.clone(),
        })?;
        let options = object_store::PutOptions { mode, attributes: self.attributes(key, stamp), ..Default::default() };
        let sent = bytes.len() as u64;
        let result = self.limited(sent, self.objects.put_opts(&path, PutPayload::from(bytes), options)).await?;
        Ok(UpdateVersion { e_tag: result.e_tag, version: result.version })
    }

    /// Writes an object whatever was there. Safe to repeat, which is what happens after an unclear answer.
    pub(super) async fn overwrite(&self, key: &Key, bytes: Bytes) -> Result<UpdateVersion, Error> {
        let mut tries: u32 = 0;
        loop {
            match self.put(key, bytes.clone(), object_store::PutMode::Overwrite, None).await.map_err(Error::from) {
                Ok(version) => return Ok(version),
                Err(Error::Denied(error)) => return Err(Error::Denied(error)),
                Err(error) if tries + 1 >= self.attempts => return Err(error),
                Err(_) => super::settle::pause(tries).await,
            }
            tries += 1;
        }
    }

    /// Writes an object in parts, with a bounded number of them in memory. It is there whole, or not at all. Not
    /// conditional: for keys whose bytes are told by the key. `part` gives the bytes from an offset on.
    pub(super) async fn put_in_parts<F>(
        &self,
        key: &Key,
        size_bytes: u64,
        mut part: impl FnMut(u64, usize) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<Bytes, Error>>,
    {
        let path = self.path(key)?;
        let options = PutMultipartOptions { attributes: self.attributes(key, None), ..Default::default() };
        let mut upload = self.limited(0, self.objects.put_multipart_opts(&path, options)).await?;
        let mut sent = stream::FuturesUnordered::new();
        let outcome = async {
            let mut offset = 0;
            while offset < size_bytes {
                let length = (size_bytes - offset).min(PART_BYTES);
                let bytes = part(offset, usize::try_from(length).unwrap_or(usize::MAX)).await?;
                sent.push(self.limited(length * PARTS_AT_ONCE as u64, upload.put_part(PutPayload::from(bytes))));
                if sent.len() >= PARTS_AT_ONCE {
                    sent.try_next().await?;
                }
                offset += length;
            }
            while sent.try_next().await?.is_some() {}
            Ok::<_, Error>(())
        }
        .await;
        drop(sent);
        let outcome = match outcome {
            Ok(()) => self.limited(size_bytes, upload.complete()).await.map(|_| ()).map_err(Error::from),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(()),
            // The answer to the last step may have been lost: the parts are only put together once.
            Err(error) => match self.size(key).await {
                Ok(size) if size == size_bytes => Ok(()),
                _ => {
                    // A rule of the bucket clears what cannot be cleared now.
                    if let Err(abort) = upload.abort().await {
                        tracing::debug!(%abort, "the parts of an upload are left to the bucket's own rules");
                    }
                    Err(error)
                }
            },
        }
    }

    /// An object's size, without its bytes.
    pub(super) async fn size(&self, key: &Key) -> Result<u64, Error> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        Ok(self.get(key, options).await?.meta.size)
    }

    fn at_rest_client(&self) -> Result<(&AtRestClient, &dyn Signer), Error> {
        let found = self.at_rest.as_ref().zip(self.signer.as_deref());
        found.ok_or_else(|| Error::Unavailable(io::ErrorKind::Unsupported.into()))
    }

    /// How an object of S3 is kept.
    pub(super) async fn kept(&self, key: &Key) -> Result<AtRest, Error> {
        let ((client, signer), path) = (self.at_rest_client()?, self.path(key)?);
        let mut tries = 1;
        loop {
            match client.look(signer, &path, self.timeout).await {
                Err(Error::Unavailable(_)) if tries < self.attempts => super::settle::pause(tries).await,
                outcome => return outcome,
            }
            tries += 1;
        }
    }

    /// Has S3 encrypt an object as wanted, if it is the one that was found.
    pub(super) async fn encrypt_in_place(&self, key: &Key, found: &AtRest) -> Result<(), Error> {
        let ((client, signer), path) = (self.at_rest_client()?, self.path(key)?);
        client.copy(signer, &path, found).await
    }

    /// Whether the bucket answers and lets us in, whatever is in it.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        match self.size(&keys::store_conditions()).await {
            Ok(_) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes an object, whether it was there or not.
    pub(super) async fn discard(&self, key: &Key) -> Result<(), Error> {
        let path = self.path(key)?;
        match self.limited(0, self.objects.delete(&path)).await.map_err(Error::from) {
            Err(Error::NotFound) => Ok(()),
            other => other,
        }
    }

    /// All keys below a folder, or all there are.
    pub(super) fn list(&self, folder: Option<&Key>) -> BoxStream<'static, Result<Listed, Error>> {
        let below = folder.map_or_else(|| self.prefix.clone(), |folder| format!("{}{folder}/", self.prefix));
        self.listed(self.objects.list(path_of_folder(&below).as_ref()))
    }

    /// All keys that sort after one.
    pub(super) fn list_after(&self, key: &Key) -> BoxStream<'static, Result<Listed, Error>> {
        self.list_path_after(path_of_folder(&self.prefix).as_ref(), key)
    }

    /// The keys of a folder that sort after one.
    pub(super) fn list_folder_after(&self, folder: &Key, key: &Key) -> BoxStream<'static, Result<Listed, Error>> {
        self.list_path_after(path_of_folder(&format!("{}{folder}/", self.prefix)).as_ref(), key)
    }

    fn list_path_after(&self, folder: Option<&Path>, key: &Key) -> BoxStream<'static, Result<Listed, Error>> {
        match self.path(key) {
            Ok(offset) => self.listed(self.objects.list_with_offset(folder, &offset)),
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        }
    }

    fn listed(
        &self,
        objects: BoxStream<'static, Result<ObjectMeta, object_store::Error>>,
    ) -> BoxStream<'static, Result<Listed, Error>> {
        let prefix = self.prefix.clone();
        objects
            .map_err(Error::from)
            .try_filter_map(move |meta| {
                let key = meta.location.as_ref().strip_prefix(&prefix).and_then(Key::listed);
                let listed = key.map(|key| Listed {
                    key,
                    etag: meta.e_tag,
                    size_bytes: meta.size,
                    modified_seconds: meta.last_modified.timestamp(),
                    used_seconds: None,
                });
                async move { Ok(listed) }
            })
            .boxed()
    }

    /// Before each key.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where all objects are, keys of ours or not.
    pub(super) fn all_paths(&self) -> BoxStream<'static, Result<Path, object_store::Error>> {
        self.objects.list(path_of_folder(&self.prefix).as_ref()).map_ok(|meta| meta.location).boxed()
    }

    /// Removes all of these, many with one request where the service can.
    pub(super) fn delete_all(
        &self,
        paths: BoxStream<'static, Result<Path, object_store::Error>>,
    ) -> BoxStream<'static, Result<Path, object_store::Error>> {
        self.objects.delete_stream(paths)
    }

    /// A link under which anybody may read an object for a while, or write it; `None` where the store has none.
    pub(super) async fn link(
        &self,
        method: Method,
        key: &Key,
        lasts: Duration,
        query: &[(&str, &str)],
    ) -> Result<Option<Url>, Error> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let path = self.path(key)?;
        let options = SignedUrlOptions::new().with_query(query.iter().copied());
        Ok(Some(self.limited(0, signer.signed_url_opts(method, &path, lasts, &options)).await?))
    }
}

/// An object that was found.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Changes with each write of the object. `None` on a directory.
    pub etag: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// When it was written, in seconds since 1970.
    pub modified_seconds: i64,
    /// When it was last read or written, in seconds since 1970: as exactly as the file system of a directory notes it,
    /// often by the day. `None` of a bucket, which does not note it.
    pub used_seconds: Option<i64>,
}

type ObjectBody = BoxStream<'static, Result<Bytes, Error>>;

/// An object whose bytes are under way.
pub(super) struct ObjectReader {
    bucket: Arc<Bucket>,
    key: Key,
    meta: ObjectMeta,
    /// In quotes.
    etag: Bytes,
    /// The answer to the request that opened it, until somebody reads it.
    body: Mutex<Option<ObjectBody>>,
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader").field("key", &self.key).finish_non_exhaustive()
    }
}

impl ObjectReader {
    pub(super) fn size_bytes(&self) -> u64 {
        self.meta.size
    }

    pub(super) fn etag(&self) -> Bytes {
        self.etag.clone()
    }

    pub(super) fn modified_seconds(&self) -> i64 {
        self.meta.last_modified.timestamp()
    }

    /// The bytes of a range. From the start it is what was opened; any other part is asked for by itself. A body that
    /// breaks off, as it does under a client that takes an hour, is taken up where it ended.
    pub(super) fn stream(&self, range: ByteRange) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        let opened = match range.start {
            0 => self.body.lock().unwrap_or_else(PoisonError::into_inner).take(),
            _ => None,
        };
        let reading = Reading {
            bucket: Arc::clone(&self.bucket),
            key: self.key.clone(),
            etag: self.meta.e_tag.clone(),
            range,
            body: opened,
            failures: 0,
        };
        stream::try_unfold(
            reading,
            |mut reading| async move { Ok(reading.next().await?.map(|bytes| (bytes, reading))) },
        )
    }
}

/// A part of an object on its way to a reader.
struct Reading {
    bucket: Arc<Bucket>,
    key: Key,
    etag: Option<String>,
    /// What is still to come.
    range: ByteRange,
    body: Option<ObjectBody>,
    /// Times in a row that nothing came.
    failures: u32,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.range.start < self.range.end {
            match self.piece().await {
                Ok(Some(mut bytes)) => {
                    let wanted = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
                    bytes.truncate(wanted);
                    self.range.start += bytes.len() as u64;
                    self.failures = 0;
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                // Gone, replaced or forbidden: nothing to wait for.
                Err(error @ (Error::NotFound | Error::Denied(_))) => return Err(error),
                outcome if self.failures >= RESUMPTIONS => {
                    return Err(outcome.err().unwrap_or(Error::Unavailable(io::ErrorKind::UnexpectedEof.into())));
                }
                _ => {
                    self.body = None;
                    super::settle::pause(self.failures).await;
                    self.failures += 1;
                }
            }
        }
        Ok(None)
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        let body = match &mut self.body {
            Some(body) => body,
            None => self.body.insert(self.bucket.open_part(&self.key, self.etag.as_deref(), self.range).await?),
        };
        body.try_next().await
    }
}

fn path_of_folder(folder: &str) -> Option<Path> {
    Path::parse(folder.trim_end_matches('/')).ok().filter(|path| !path.as_ref().is_empty())
}

/// A conflict is no answer to a question.
fn no_conflict(error: Error) -> Error {
    match error {
        Error::Exists => Error::Unavailable(io::ErrorKind::Other.into()),
        error => error,
    }
}

/// A name for one write, random.
pub(super) fn name_of_write() -> String {
    let mut name = random::id();
    name.truncate(12);
    name
}
