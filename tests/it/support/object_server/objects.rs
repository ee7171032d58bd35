//! What the server keeps, and what each operation does to it. One lock is held from looking at the conditions to having
//! written, so that of any number of conditional writes that race one wins.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{Timestamp, Unit};
use md5::{Digest as _, Md5};

use super::reply::{Error, Reply};
use super::request::{COPY_SOURCE, METADATA, Operation, S3Request, decode};
use super::xml;
use crate::support::hex;

/// The headers of a write that every read of the object has again, besides its user metadata.
const KEPT: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LANGUAGE,
    header::CACHE_CONTROL,
];
const STORAGE_CLASS: &str = "x-amz-storage-class";
/// How an object is encrypted. Writes say it too in their answers.
const ENCRYPTION: [&str; 3] = [
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
];
/// Parameters by which a link can have its answer say something else.
const OVERRIDES: [(&str, HeaderName); 5] = [
    ("response-content-type", header::CONTENT_TYPE),
    ("response-content-encoding", header::CONTENT_ENCODING),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-cache-control", header::CACHE_CONTROL),
];

/// Limits as AWS has them. The list of a page may be made shorter.
const LONGEST_KEY: usize = 1024;
const LARGEST_METADATA: usize = 2048;
const MOST_PARTS: u32 = 10_000;
const SMALLEST_PART: usize = 5 << 20;
const MOST_DELETED: usize = 1000;
pub(super) const LONGEST_PAGE: usize = 1000;

/// An object as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) bytes: Bytes,
    /// In quotes. The MD5 of the bytes, so that equal bytes have an equal one, unless they are encrypted.
    pub(crate) etag: String,
    pub(crate) modified: Timestamp,
    /// Type, coding, storage class, encryption and user metadata, under the names of the headers.
    pub(crate) headers: HeaderMap,
}

impl Object {
    /// What a read says of it.
    fn describe(&self, reply: Reply) -> Reply {
        let mut reply = reply
            .with(header::ETAG, &self.etag)
            .with(header::LAST_MODIFIED, &http_date(self.modified))
            .with(header::ACCEPT_RANGES, "bytes");
        reply.headers.extend(self.headers.clone());
        if self.headers.get(STORAGE_CLASS).is_some_and(|class| class == "STANDARD") {
            reply.headers.remove(STORAGE_CLASS);
        }
        reply
    }
}

/// An upload in parts that has not come to its end.
#[derive(Debug)]
struct Upload {
    key: String,
    headers: HeaderMap,
    /// With the MD5 of each, which is its ETag.
    parts: BTreeMap<u32, (Bytes, [u8; 16])>,
}

/// A bucket.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) all: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    /// Makes the ids of uploads, and each ETag of what is encrypted.
    count: u64,
}

impl Objects {
    /// The keys of uploads that were neither completed nor aborted.
    pub(super) fn open_uploads(&self) -> Vec<String> {
        self.uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// Does what a request asks for.
    pub(super) fn apply(&mut self, request: &S3Request, now: Timestamp, page: usize) -> Result<Reply, Error> {
        check_body(request)?;
        if request.key.len() > LONGEST_KEY {
            return Err(Error::new(400, "KeyTooLongError", "Your key is too long"));
        }
        match request.operation {
            Operation::Get | Operation::ConditionalGet | Operation::Head => self.read(request),
            Operation::Put | Operation::ConditionalPut => self.put(request, now),
            Operation::Copy => self.copy(request, now),
            Operation::Delete => {
                self.all.remove(&request.key);
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
            Operation::BulkDelete => self.bulk_delete(request),
            Operation::List => self.list(request, page),
            Operation::CreateMultipart => self.create_multipart(request),
            Operation::UploadPart => self.upload_part(request),
            Operation::CompleteMultipart => self.complete_multipart(request, now),
            Operation::AbortMultipart => {
                let id = self.upload_id(request)?;
                self.uploads.remove(&id);
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
            Operation::Other => Err(Error::new(501, "NotImplemented", "This server has no such operation")),
        }
    }

    fn read(&self, request: &S3Request) -> Result<Reply, Error> {
        let object = self.all.get(&request.key).ok_or_else(Error::no_such_key)?;
        if let Some(reply) = unmet(request, object)? {
            return Ok(reply);
        }
        let mut reply = object.describe(Reply { body: object.bytes.clone(), ..Reply::default() });
        for (parameter, header) in OVERRIDES {
            if let Some(value) = request.parameter(parameter) {
                reply = reply.with(header, value);
            }
        }
        let length = object.bytes.len();
        if let Some(wanted) = request.header("range").and_then(|text| parse_range(text, length)) {
            let wanted = wanted?;
            let range = format!("bytes {}-{}/{length}", wanted.start, wanted.end - 1);
            reply = reply.with(header::CONTENT_RANGE, &range);
            reply.status = StatusCode::PARTIAL_CONTENT;
            reply.body = object.bytes.slice(wanted);
        }
        Ok(reply)
    }

    fn put(&mut self, request: &S3Request, now: Timestamp) -> Result<Reply, Error> {
        self.may_write(request)?;
        let headers = described(&request.headers)?;
        let etag = self.etag_of(&headers, &Md5::digest(&request.body));
        Ok(self.write(&request.key, request.body.clone(), etag, headers, now, Reply::default()))
    }

    /// A copy has bytes and metadata of its source. How it is stored and encrypted is its own.
    fn copy(&mut self, request: &S3Request, now: Timestamp) -> Result<Reply, Error> {
        let (key, source) = self.source(request)?;
        self.may_write(request)?;
        let mut headers = described(&request.headers)?;
        let replaces = request.header("x-amz-metadata-directive") == Some("REPLACE");
        if !replaces {
            if key == request.key && !headers.keys().any(is_own) {
                let message = "An object can be copied to itself only with other metadata, storage or encryption";
                return Err(Error::new(400, "InvalidRequest", message));
            }
            let own =
                headers.into_iter().filter_map(|(name, value)| Some((name?, value))).filter(|(name, _)| is_own(name));
            let inherited = source.headers.iter().filter(|(name, _)| !is_own(name));
            headers = inherited.map(|(name, value)| (name.clone(), value.clone())).chain(own).collect();
        }
        let etag = self.etag_of(&headers, &Md5::digest(&source.bytes));
        let document = xml::document("CopyObjectResult", &[("ETag", &etag), ("LastModified", &iso_date(now))]);
        Ok(self.write(&request.key, source.bytes, etag, headers, now, Reply::xml(document)))
    }

    /// The object that a copy is made of, and its key.
    fn source(&self, request: &S3Request) -> Result<(String, Object), Error> {
        let path = decode(request.header(COPY_SOURCE).unwrap_or_default().trim_start_matches('/'));
        let key = path.strip_prefix(&format!("{}/", request.bucket));
        let key = key.ok_or_else(Error::no_such_bucket)?;
        let object = self.all.get(key).ok_or_else(Error::no_such_key)?;
        match request.header("x-amz-copy-source-if-match") {
            Some(etags) if !names(etags, &object.etag) => Err(Error::precondition()),
            _ => Ok((key.to_owned(), object.clone())),
        }
    }

    fn bulk_delete(&mut self, request: &S3Request) -> Result<Reply, Error> {
        let body = text_of(request)?;
        let keys = xml::texts(body, "Key");
        if keys.is_empty() || keys.len() > MOST_DELETED {
            return Err(Error::new(400, "MalformedXML", "One to 1000 keys are expected"));
        }
        let is_quiet = xml::texts(body, "Quiet").first().is_some_and(|text| text == "true");
        let mut deleted = String::new();
        for key in keys {
            self.all.remove(&key);
            if !is_quiet {
                deleted.push_str(&xml::nested("Deleted", &xml::element("Key", &key)));
            }
        }
        Ok(Reply::xml(xml::root("DeleteResult", &deleted)))
    }

    fn list(&self, request: &S3Request, page: usize) -> Result<Reply, Error> {
        let prefix = request.parameter("prefix").unwrap_or_default();
        let delimiter = request.parameter("delimiter").filter(|delimiter| !delimiter.is_empty());
        let asked = request.parameter("max-keys").map_or(Ok(LONGEST_PAGE), str::parse);
        let limit = asked.map_err(|_| Error::invalid("max-keys is no number"))?.min(page);
        let after = match request.parameter("continuation-token") {
            Some(token) => {
                let key = BASE64_STANDARD.decode(token).ok().and_then(|key| String::from_utf8(key).ok());
                key.ok_or_else(|| Error::invalid("The continuation token provided is incorrect"))?
            }
            None => request.parameter("start-after").unwrap_or_default().to_owned(),
        };

        let (mut contents, mut prefixes) = (String::new(), String::new());
        let (mut count, mut last, mut is_truncated) = (0, after.clone(), false);
        for (key, object) in self.all.range::<str, _>((Bound::Excluded(after.as_str()), Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            let folder = delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()));
            let entry = folder.map_or(key.as_str(), |end| &key[..prefix.len() + end]);
            // A folder is one entry, whatever is in it, and was on an earlier page when that one ended with it.
            if folder.is_some() && last == entry {
                continue;
            }
            if count == limit {
                is_truncated = true;
                break;
            }
            if folder.is_some() {
                prefixes.push_str(&xml::nested("CommonPrefixes", &xml::element("Prefix", entry)));
            } else {
                contents.push_str(&listed(key, object));
            }
            entry.clone_into(&mut last);
            count += 1;
        }

        let mut inner = xml::element("Name", &request.bucket) + &xml::element("Prefix", prefix);
        inner += &xml::element("KeyCount", &count.to_string());
        inner += &xml::element("MaxKeys", &limit.to_string());
        inner += &xml::element("IsTruncated", if is_truncated { "true" } else { "false" });
        if is_truncated {
            inner += &xml::element("NextContinuationToken", &BASE64_STANDARD.encode(&last));
        }
        Ok(Reply::xml(xml::root("ListBucketResult", &(inner + &contents + &prefixes))))
    }

    fn create_multipart(&mut self, request: &S3Request) -> Result<Reply, Error> {
        self.count += 1;
        let id = format!("upload-{}", self.count);
        let upload = Upload { key: request.key.clone(), headers: described(&request.headers)?, parts: BTreeMap::new() };
        let reply = encrypted(
            &upload.headers,
            Reply::xml(xml::document(
                "InitiateMultipartUploadResult",
                &[("Bucket", &request.bucket), ("Key", &request.key), ("UploadId", &id)],
            )),
        );
        self.uploads.insert(id, upload);
        Ok(reply)
    }

    fn upload_part(&mut self, request: &S3Request) -> Result<Reply, Error> {
        let id = self.upload_id(request)?;
        let number = request.parameter("partNumber").and_then(|text| text.parse().ok());
        let number = number.filter(|number| (1..=MOST_PARTS).contains(number));
        let number = number.ok_or_else(|| Error::invalid("Part number must be an integer between 1 and 10000"))?;
        let is_copy = request.headers.contains_key(COPY_SOURCE);
        let bytes = if is_copy { self.source(request)?.1.bytes } else { request.body.clone() };
        let md5: [u8; 16] = Md5::digest(&bytes).into();
        let etag = quoted(&md5);
        let upload = self.uploads.get_mut(&id).ok_or_else(no_such_upload)?;
        upload.parts.insert(number, (bytes, md5));
        let reply = if is_copy {
            Reply::xml(xml::document("CopyPartResult", &[("ETag", &etag)]))
        } else {
            Reply::default().with(header::ETAG, &etag)
        };
        Ok(encrypted(&upload.headers, reply))
    }

    fn complete_multipart(&mut self, request: &S3Request, now: Timestamp) -> Result<Reply, Error> {
        let id = self.upload_id(request)?;
        self.may_write(request)?;
        let body = text_of(request)?;
        let numbers: Vec<u32> = xml::texts(body, "PartNumber").iter().filter_map(|text| text.parse().ok()).collect();
        let etags = xml::texts(body, "ETag");
        if numbers.is_empty() || numbers.len() != etags.len() {
            return Err(Error::new(400, "MalformedXML", "Each part needs its number and its ETag"));
        }
        if !numbers.is_sorted_by(|one, next| one < next) {
            return Err(Error::new(400, "InvalidPartOrder", "The parts are not in ascending order"));
        }
        let upload = self.uploads.get(&id).ok_or_else(no_such_upload)?;
        let mut bytes = Vec::new();
        let mut digests = Md5::new();
        for (number, etag) in numbers.iter().zip(&etags) {
            let part = upload.parts.get(number).filter(|(_, md5)| names(etag, &quoted(md5)));
            let (part, md5) = part.ok_or_else(|| Error::new(400, "InvalidPart", "A part could not be found"))?;
            if part.len() < SMALLEST_PART && Some(number) != numbers.last() {
                return Err(Error::new(400, "EntityTooSmall", "A part that is not the last is below 5 MiB"));
            }
            bytes.extend_from_slice(part);
            digests.update(md5);
        }
        let etag = format!("\"{}-{}\"", hex(&digests.finalize()), numbers.len());
        let headers = upload.headers.clone();
        let document = xml::document(
            "CompleteMultipartUploadResult",
            &[("Bucket", &request.bucket), ("Key", &request.key), ("ETag", &etag)],
        );
        self.uploads.remove(&id);
        Ok(self.write(&request.key, bytes.into(), etag, headers, now, Reply::xml(document)))
    }

    /// The id of the upload that a request belongs to.
    fn upload_id(&self, request: &S3Request) -> Result<String, Error> {
        let id = request.parameter("uploadId").unwrap_or_default();
        let is_known = self.uploads.get(id).is_some_and(|upload| upload.key == request.key);
        is_known.then(|| id.to_owned()).ok_or_else(no_such_upload)
    }

    /// Whether the conditions of a write hold: `If-None-Match: *`, or `If-Match` with one ETag.
    fn may_write(&self, request: &S3Request) -> Result<(), Error> {
        let object = self.all.get(&request.key);
        match (request.header("if-none-match"), request.header("if-match"), object) {
            (Some("*"), None, Some(_)) => Err(Error::precondition()),
            (None, Some(_), None) => Err(Error::no_such_key()),
            (None, Some(etag), Some(object)) if !names(etag, &object.etag) => Err(Error::precondition()),
            (None, _, _) | (Some("*"), None, None) => Ok(()),
            (Some(_), _, _) => Err(Error::new(501, "NotImplemented", "A condition that is not implemented")),
        }
    }

    fn write(
        &mut self,
        key: &str,
        bytes: Bytes,
        etag: String,
        headers: HeaderMap,
        modified: Timestamp,
        reply: Reply,
    ) -> Reply {
        let reply = encrypted(&headers, reply.with(header::ETAG, &etag));
        self.all.insert(key.to_owned(), Object { bytes, etag, modified, headers });
        reply
    }

    /// The ETag of what is encrypted with a key of the customer's is not the MD5 of its bytes, and never the same.
    fn etag_of(&mut self, headers: &HeaderMap, md5: &[u8]) -> String {
        if headers.get(ENCRYPTION[0]).is_some_and(|value| value.as_bytes().starts_with(b"aws:kms")) {
            self.count += 1;
            return quoted(&Md5::digest(self.count.to_le_bytes()));
        }
        quoted(md5)
    }
}

/// Whether all of the body came, and the one that was meant.
fn check_body(request: &S3Request) -> Result<(), Error> {
    let declared = request.header("content-length").and_then(|text| text.parse::<usize>().ok());
    let is_copy = request.headers.contains_key(COPY_SOURCE);
    let has_data = matches!(request.operation, Operation::Put | Operation::ConditionalPut | Operation::UploadPart);
    if declared.is_none() && has_data && !is_copy {
        return Err(Error::new(411, "MissingContentLength", "You must provide the Content-Length header"));
    }
    if declared.is_some_and(|length| length != request.body.len()) {
        return Err(Error::new(400, "IncompleteBody", "The body is shorter than declared, or too large"));
    }
    let sha256 = || digest(&SHA256, &request.body);
    let is_wrong = |name, right: &dyn Fn() -> String| {
        request.header(name).is_some_and(|claimed| claimed != "UNSIGNED-PAYLOAD" && claimed != right())
    };
    let md5 = || BASE64_STANDARD.encode(Md5::digest(&request.body));
    if is_wrong("content-md5", &md5) || is_wrong("x-amz-checksum-sha256", &|| BASE64_STANDARD.encode(sha256())) {
        return Err(Error::new(400, "BadDigest", "The digest did not match what was received"));
    }
    if is_wrong("x-amz-content-sha256", &|| hex(sha256().as_ref())) {
        return Err(Error::new(400, "XAmzContentSHA256Mismatch", "The hash did not match what was computed"));
    }
    Ok(())
}

/// The headers that an object keeps.
fn described(headers: &HeaderMap) -> Result<HeaderMap, Error> {
    let is_metadata = |name: &HeaderName| name.as_str().starts_with(METADATA);
    let kept = headers.iter().filter(|(name, _)| KEPT.contains(name) || is_metadata(name) || is_own(name));
    let kept: HeaderMap = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let metadata = kept.iter().filter(|(name, _)| is_metadata(name));
    let length: usize = metadata.map(|(name, value)| name.as_str().len() - METADATA.len() + value.len()).sum();
    if length > LARGEST_METADATA {
        return Err(Error::new(400, "MetadataTooLarge", "Your metadata headers exceed the maximum"));
    }
    Ok(kept)
}

/// Whether a header says how an object is kept, which no copy takes over.
fn is_own(name: &HeaderName) -> bool {
    name == STORAGE_CLASS || ENCRYPTION.contains(&name.as_str())
}

/// What a write says of how its object is encrypted.
fn encrypted(headers: &HeaderMap, mut reply: Reply) -> Reply {
    let encryption = headers.iter().filter(|(name, _)| ENCRYPTION.contains(&name.as_str()));
    reply.headers.extend(encryption.map(|(name, value)| (name.clone(), value.clone())));
    reply
}

/// The answer to a read whose conditions do not hold.
fn unmet(request: &S3Request, object: &Object) -> Result<Option<Reply>, Error> {
    let instant = |name| request.header(name).and_then(|text| httpdate::parse_http_date(text).ok());
    let modified = seconds(object.modified);
    let is_other = match request.header("if-match") {
        Some(etags) => !names(etags, &object.etag),
        None => instant("if-unmodified-since").is_some_and(|since| modified > since),
    };
    if is_other {
        return Err(Error::precondition());
    }
    let is_same = match request.header("if-none-match") {
        Some(etags) => names(etags, &object.etag),
        None => instant("if-modified-since").is_some_and(|since| modified <= since),
    };
    Ok(is_same.then(|| object.describe(Reply::empty(StatusCode::NOT_MODIFIED))))
}

/// Whether a list, or `*`, has this ETag in it. Quotes may be missing, as S3 allows.
fn names(list: &str, etag: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    list.trim() == "*" || list.split(',').any(|one| bare(one) == bare(etag))
}

/// `None` for what is no range of bytes, which is ignored then.
fn parse_range(text: &str, length: usize) -> Option<Result<Range<usize>, Error>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse().ok(), last.parse().ok()) {
        (None, Some(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        (Some(first), None) if last.is_empty() => first..length,
        (Some(first), Some(last)) if first <= last => first..length.min(last + 1),
        _ => return None,
    };
    let unsatisfiable = || Error::new(416, "InvalidRange", "The requested range is not satisfiable");
    Some(if range.is_empty() { Err(unsatisfiable()) } else { Ok(range) })
}

fn listed(key: &str, object: &Object) -> String {
    let class = object.headers.get(STORAGE_CLASS).and_then(|class| class.to_str().ok()).unwrap_or("STANDARD");
    let elements = [
        ("Key", key),
        ("LastModified", &iso_date(object.modified)),
        ("ETag", &object.etag),
        ("Size", &object.bytes.len().to_string()),
        ("StorageClass", class),
    ];
    let inner: String = elements.iter().map(|(name, text)| xml::element(name, text)).collect();
    xml::nested("Contents", &inner)
}

fn text_of(request: &S3Request) -> Result<&str, Error> {
    std::str::from_utf8(&request.body).map_err(|_| Error::new(400, "MalformedXML", "The body is no text"))
}

fn no_such_upload() -> Error {
    Error::new(404, "NoSuchUpload", "The specified multipart upload does not exist")
}

fn quoted(hash: &[u8]) -> String {
    format!("\"{}\"", hex(hash))
}

/// Without the part of a second, which a date in a header cannot say.
fn seconds(time: Timestamp) -> SystemTime {
    Timestamp::from_second(time.as_second()).unwrap().try_into().unwrap()
}

fn http_date(time: Timestamp) -> String {
    httpdate::fmt_http_date(seconds(time))
}

fn iso_date(time: Timestamp) -> String {
    format!("{:.3}", time.round(Unit::Millisecond).unwrap())
}
