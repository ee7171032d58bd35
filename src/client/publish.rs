//! Publishing: a tarball by a link to the bucket, or in the request where there are no links.
//!
//! The tarball is streamed from its file either way. What proves who we are never goes to the bucket: the link is enough.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use url::Url;

use super::{Client, Done, Error, TIMEOUT};
use crate::secret::Secret;

/// The longest that a function on AWS Lambda may take.
const COMMIT_TIMEOUT: Duration = Duration::from_mins(15);
/// An upload that is slower than this is given up.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 * 1024;
/// A piece of the file in memory. A multiple of three, so that pieces in base64 make one text.
const PIECE_BYTES: usize = 192 * 1024;
/// How often an upload is begun, and a commit whose answer was lost is asked for.
const ATTEMPTS: u32 = 4;
/// Before the second try; doubled with each.
const PAUSE: Duration = Duration::from_millis(500);

/// A tarball that is to be published, with its document.
#[derive(Clone)]
pub struct Parcel {
    /// The package.
    pub name: String,
    /// The version.
    pub version: String,
    /// The publish document without `_attachments`.
    pub document: Value,
    /// `_attachments`: the tarball last, without its data.
    pub attachments: serde_json::Map<String, Value>,
    /// Where the tarball is.
    pub file: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its `dist.integrity`.
    pub integrity: String,
    /// Told how many bytes have been sent.
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

/// Where the registry wants a tarball to be sent.
#[derive(Clone, Deserialize)]
pub struct Place {
    id: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Identity {
    value: String,
}

impl Client {
    /// Asks for a link to send the tarball by; `None` where the registry wants it in the publish request.
    pub async fn begin_upload(&self, parcel: &Parcel) -> Result<Option<Place>, Error> {
        let url = format!("{}-/holdfast/v1/package/{}/uploads", self.base, segment(&parcel.name));
        let body = json!({ "version": parcel.version, "length": parcel.size_bytes }).to_string();
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").timeout(COMMIT_TIMEOUT).body(body);
        let (status, answer) = self.send(self.authorized(request)).await?;
        match self.read(status, &answer) {
            Ok(place) => Ok(Some(place)),
            Err(Error::Refused { code, .. }) if code == "no_upload_links" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends the tarball by a link. Begun anew when the connection breaks or the bucket is in trouble.
    pub async fn upload(&self, parcel: &Parcel, place: &Place) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = self.send_by_link(parcel, place).await;
            let is_passing = match &outcome {
                Err(Error::Bucket { status, .. }) => *status >= 500 || *status == 429,
                Err(Error::Unreachable { .. }) => true,
                _ => false,
            };
            if !is_passing || tries >= ATTEMPTS {
                return outcome;
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
        }
    }

    /// No token here: whoever has the link may write.
    async fn send_by_link(&self, parcel: &Parcel, place: &Place) -> Result<(), Error> {
        let url: Url = place.url.parse().map_err(|_| Error::Strange(self.base.to_string()))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let pieces = pieces(open(parcel).await?, Arc::clone(&parcel.progress));
        let mut request = self.http.put(url).timeout(time_for(parcel.size_bytes));
        for (name, value) in &place.headers {
            request = request.header(name, value);
        }
        // Buckets take no body of unknown length.
        let request = request.header(CONTENT_LENGTH, parcel.size_bytes).body(reqwest::Body::wrap_stream(pieces));
        // The address has the right to write in it.
        let failed = |source: reqwest::Error| Error::Unreachable { url: host.clone(), source: source.without_url() };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(Error::Bucket { host, status: status.as_u16() }) }
    }

    /// Publishes what was uploaded. Asked again when the answer is lost: a version that is there then with our bytes is ours.
    pub async fn commit_upload(&self, parcel: &Parcel, place: &Place) -> Result<(), Error> {
        let name = segment(&parcel.name);
        let url = format!("{}-/holdfast/v1/package/{name}/uploads/{}/commit", self.base, place.id);
        let mut document = parcel.document.clone();
        document["_attachments"] = parcel.attachments.clone().into();
        let body = Bytes::from(document.to_string());
        let mut tries = 0;
        loop {
            tries += 1;
            let request = self.http.post(&url).header(CONTENT_TYPE, "application/json").timeout(COMMIT_TIMEOUT);
            let outcome = self.written(self.authorized(request.body(body.clone()))).await;
            match outcome {
                Err(Error::Unreachable { .. }) if tries < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
                }
                // Whatever is said to the second, the first may have been done.
                Err(refusal @ Error::Refused { .. }) if tries > 1 => {
                    let is_done = self.has_published(parcel).await.is_ok_and(|is_there| is_there);
                    return if is_done { Ok(()) } else { Err(refusal) };
                }
                outcome => return outcome,
            }
        }
    }

    /// Publishes with the tarball in the request, as npm does.
    pub async fn publish_whole(&self, parcel: &Parcel) -> Result<(), Error> {
        let (head, tail) = around_data(&parcel.document, &parcel.attachments);
        let length = (head.len() + tail.len()) as u64 + parcel.size_bytes.div_ceil(3) * 4;
        let data = pieces(open(parcel).await?, Arc::clone(&parcel.progress));
        let data = data.map_ok(|piece| Bytes::from(STANDARD.encode(piece)));
        let once = |text: String| stream::once(async move { Ok::<_, io::Error>(Bytes::from(text)) });
        let body = reqwest::Body::wrap_stream(once(head).chain(data).chain(once(tail)));
        let request = self.http.put(format!("{}{}", self.base, segment(&parcel.name)));
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, length)
            .timeout(COMMIT_TIMEOUT.max(time_for(length)))
            .body(body);
        self.written(self.authorized(request)).await
    }

    /// A write whose answer says nothing but that it is done. What a refusal adds for people is told too: where to confirm.
    async fn written(&self, request: reqwest::RequestBuilder) -> Result<(), Error> {
        let response = request.send().await;
        let response = response.map_err(|source| Error::Unreachable { url: self.base.to_string(), source })?;
        let status = response.status();
        let notice = response.headers().get("npm-notice").and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let answer = self.body(response).await?;
        match (self.read::<Value>(status, &answer), notice) {
            (Ok(_), _) => Ok(()),
            (Err(Error::Refused { code, sentence, request_id }), Some(notice)) if notice != sentence => {
                Err(Error::Refused { code, sentence: format!("{sentence} {notice}."), request_id })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Whether the version is there with the very bytes of the parcel.
    async fn has_published(&self, parcel: &Parcel) -> Result<bool, Error> {
        let url = format!("{}{}/{}", self.base, segment(&parcel.name), parcel.version);
        let (status, answer) = self.send(self.authorized(self.http.get(url))).await?;
        let version: Value = self.read(status, &answer)?;
        Ok(version["dist"]["integrity"] == parcel.integrity.as_str())
    }

    /// Asks a runner of GitHub Actions for the identity token of this job, made out for this registry.
    pub async fn identity(&self, runner: &Url, secret: &Secret) -> Result<Secret, Error> {
        let mut url = runner.clone();
        let audience = format!("npm:{}", self.base.host_str().unwrap_or_default());
        url.query_pairs_mut().append_pair("audience", &audience);
        let unreachable = |source: reqwest::Error| Error::Unreachable {
            url: runner.origin().ascii_serialization(),
            source: source.without_url(),
        };
        let response = self.http.get(url).bearer_auth(secret.expose()).send().await.map_err(unreachable)?;
        let answer = self.body(response).await?;
        let identity: Identity = serde_json::from_slice(&answer).map_err(|_| Error::NoIdentity)?;
        Ok(Secret::new(identity.value))
    }

    /// Exchanges a CI job's identity token for one that may change the package for some minutes.
    pub async fn exchange(&self, package: &str, identity: &Secret) -> Result<String, Error> {
        let url = format!("{}-/npm/v1/oidc/token/exchange/package/{}", self.base, segment(package));
        let request = self.http.post(url).timeout(TIMEOUT).bearer_auth(identity.expose());
        let (status, answer) = self.send(request).await?;
        self.read::<Done>(status, &answer).map(|done| done.token)
    }
}

/// A package's name as one segment of a path.
fn segment(name: &str) -> String {
    name.replacen('/', "%2f", 1)
}

fn time_for(bytes: u64) -> Duration {
    TIMEOUT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

async fn open(parcel: &Parcel) -> Result<File, Error> {
    File::open(&parcel.file).await.map_err(Error::Tarball)
}

/// A file in pieces of [`PIECE_BYTES`], the last one aside, told as they are taken.
fn pieces(
    file: File,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, 0_u64), move |(mut file, sent)| {
        let progress = Arc::clone(&progress);
        async move {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece).await?;
            if piece.is_empty() {
                return Ok(None);
            }
            let sent = sent + piece.len() as u64;
            progress(sent);
            Ok(Some((Bytes::from(piece), (file, sent))))
        }
    })
}

/// A publish body before and after the data of its tarball, which is the last attachment.
fn around_data(document: &Value, attachments: &serde_json::Map<String, Value>) -> (String, String) {
    let mut document = document.clone();
    document["_attachments"] = attachments.clone().into();
    let text = document.to_string();
    // The ends of the attachment, of `_attachments` and of the document, which is an object with members.
    let tail = "}}}";
    let head = text.strip_suffix(tail).unwrap_or(&text);
    (format!("{head},\"data\":\""), format!("\"{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_come_last_in_a_body() {
        let attachments = json!({ "a.sigstore": { "data": "{}" }, "a-1.0.0.tgz": { "length": 3 } });
        let (head, tail) = around_data(&json!({ "name": "a" }), attachments.as_object().unwrap());
        let body: Value = serde_json::from_str(&format!("{head}YWJj{tail}")).unwrap();
        assert_eq!(body["_attachments"]["a-1.0.0.tgz"], json!({ "length": 3, "data": "YWJj" }));
        assert_eq!(body["_attachments"]["a.sigstore"]["data"], "{}");
        assert_eq!(body["name"], "a");
    }

    #[tokio::test]
    async fn a_file_comes_in_pieces_that_make_one_text_in_base64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..PIECE_BYTES + 7).map(|at| u8::try_from(at % 251).unwrap()).collect();
        std::fs::write(&path, &bytes).unwrap();
        let pieces: Vec<Bytes> =
            pieces(File::open(&path).await.unwrap(), Arc::new(|_| {})).try_collect().await.unwrap();
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE_BYTES, 7]);
        let text: String = pieces.iter().map(|piece| STANDARD.encode(piece)).collect();
        assert_eq!(text, STANDARD.encode(&bytes));
    }
}
