//! Which bucket, and how it is reached.
//!
//! Credentials come by the platform's usual chain, as `object_store` looks for them: variables, web identity, the
//! container's or the instance's role. Profiles of `~/.aws` are not read.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::at_rest::{AtRestClient, WantedEncryption};
use super::odd_keys::PathsOnly;
use crate::aws::{self, Aws, AwsError};
use crate::secret::Secret;

/// Where a store is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A directory of this machine, owned by one process.
    Directory(PathBuf),
    /// A bucket, shared by any number of processes.
    Bucket(Box<BucketSettings>),
}

impl Location {
    /// Whether one of two places is, or lies within, the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(one), Self::Directory(other)) => {
                // What is not there yet overlaps with nothing but its own name.
                let whole = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
                let (one, other) = (whole(one), whole(other));
                one.starts_with(&other) || other.starts_with(&one)
            }
            (Self::Bucket(one), Self::Bucket(other)) => {
                one.endpoint == other.endpoint && one.address.overlaps(&other.address)
            }
            _ => false,
        }
    }
}

/// Which service a bucket is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Service {
    /// This process's memory; gone with it. For tests and trials.
    #[default]
    Memory,
    S3,
    GoogleCloudStorage,
    AzureBlob,
}

/// A bucket and the part of it that is ours: `s3://bucket/prefix`, `gs://…`, `az://container/prefix`, or `memory:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketAddress {
    service: Service,
    bucket: String,
    /// Without slashes at its ends.
    prefix: String,
}

impl BucketAddress {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    fn overlaps(&self, other: &Self) -> bool {
        let folder = |address: &Self| match address.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let (one, two) = (folder(self), folder(other));
        // Each store in memory is one of its own.
        self.service != Service::Memory
            && (self.service, &self.bucket) == (other.service, &other.bucket)
            && (one.starts_with(&two) || two.starts_with(&one))
    }
}

impl FromStr for BucketAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let unknown = || AddressError::Unknown(text.to_owned());
        if matches!(text, "memory:" | "memory://") {
            return Ok(Self::default());
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(unknown)?;
        let service = match scheme {
            "s3" => Service::S3,
            "gs" => Service::GoogleCloudStorage,
            "az" => Service::AzureBlob,
            _ => return Err(unknown()),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_bucket = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        };
        let is_path = |text: &str| text.is_empty() || Path::parse(text).is_ok_and(|path| path.as_ref() == text);
        if !is_bucket(bucket) || !is_path(prefix) || rest.contains(['?', '#']) {
            return Err(unknown());
        }
        Ok(Self { service, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.service {
            Service::Memory => return f.write_str("memory:"),
            Service::S3 => "s3",
            Service::GoogleCloudStorage => "gs",
            Service::AzureBlob => "az",
        };
        write!(f, "{scheme}://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// How S3 encrypts what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encryption {
    /// By keys of S3 on AWS; elsewhere as the bucket has it, since many stores refuse the header.
    #[default]
    Auto,
    /// By keys of S3 (`AES256`).
    S3,
    /// By a key of KMS (`aws:kms`).
    Kms,
    /// As the bucket has it.
    Bucket,
}

/// A bucket and how it is used.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// Which bucket.
    pub address: BucketAddress,
    /// The address of a store that speaks S3 and is not AWS.
    pub endpoint: Option<Url>,
    /// The region, where the environment does not say it.
    pub region: Option<String>,
    /// The id and the secret of an access key, where it does not come by the platform's chain. For S3.
    pub access_key: Option<(String, Secret)>,
    /// The bucket's name in the path of an address (the default with an endpoint) or in its host name.
    pub path_style: Option<bool>,
    /// How S3 encrypts what is written.
    pub encryption: Encryption,
    /// The key of KMS; the account's own for S3 where there is none.
    pub kms_key: Option<String>,
    /// One call of KMS for many objects.
    pub bucket_key: bool,
    /// The storage class of cached objects; the bucket's own where there is none.
    pub cache_class: Option<String>,
    /// For one request, from its start to the head of its answer.
    pub timeout: Duration,
    /// How long a body may bring nothing.
    pub idle: Duration,
    /// How often a request is tried, and an unclear write is looked after.
    pub attempts: u32,
    /// One process alone writes, so that a store without conditional writes will do.
    pub single_writer: bool,
    /// Where uploads are staged; the system's folder for temporary files where there is none.
    pub staging: Option<PathBuf>,
}

impl Default for BucketSettings {
    fn default() -> Self {
        Self {
            address: BucketAddress::default(),
            endpoint: None,
            region: None,
            access_key: None,
            path_style: None,
            encryption: Encryption::Auto,
            kms_key: None,
            bucket_key: true,
            cache_class: None,
            timeout: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            attempts: 4,
            single_writer: false,
            staging: None,
        }
    }
}

impl BucketSettings {
    /// The address as it may be shown.
    pub fn shown(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("{} at {}", self.address, endpoint.origin().ascii_serialization()),
            None => self.address.to_string(),
        }
    }
}

/// Why a bucket cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// No store is known by such a URL.
    #[error("`{0}` is no address of a store: use s3://bucket/prefix, gs://…, az://…, memory: or file:///directory")]
    Unknown(String),
    /// Settings that the client does not take.
    #[error("the bucket's settings do not go together")]
    Settings(#[source] object_store::Error),
    /// There is no client for what is asked of a bucket itself.
    #[error(transparent)]
    Administration(#[from] AwsError),
    /// There is no room for uploads on their way.
    #[error("there is no folder to stage uploads in")]
    Staging(#[source] io::Error),
}

pub(super) struct Connection {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) signer: Option<Arc<dyn Signer>>,
    pub(super) prefix: String,
    /// What a write by a link has to say.
    pub(super) writing_headers: &'static [(&'static str, &'static str)],
    /// Where it is S3, and how objects are to be encrypted is not left to the bucket.
    pub(super) at_rest: Option<AtRestClient>,
}

pub(super) fn connect(settings: &BucketSettings) -> Result<Connection, AddressError> {
    let BucketAddress { service, bucket, prefix } = &settings.address;
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let (objects, signer): (Arc<dyn ObjectStore>, Option<Arc<dyn Signer>>) = match service {
        Service::Memory => (Arc::new(InMemory::new()), None),
        Service::S3 => both(s3(settings, bucket).and_then(AmazonS3Builder::build).map_err(AddressError::Settings)?),
        Service::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(client(settings))
                .with_retry(retry(settings));
            both(builder.build().map_err(AddressError::Settings)?)
        }
        Service::AzureBlob => {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_client_options(client(settings))
                .with_retry(retry(settings));
            if let Some(endpoint) = &settings.endpoint {
                builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned());
            }
            both(builder.build().map_err(AddressError::Settings)?)
        }
    };
    let writing_headers: &[_] = match service {
        // Azure does not guess of which type an object is to be.
        Service::AzureBlob => &[("x-ms-blob-type", "BlockBlob")],
        Service::Memory | Service::S3 | Service::GoogleCloudStorage => &[],
    };
    let at_rest = match service {
        Service::S3 => at_rest(settings, bucket)?,
        Service::Memory | Service::GoogleCloudStorage | Service::AzureBlob => None,
    };
    Ok(Connection { objects, signer, prefix, writing_headers, at_rest })
}

fn at_rest(settings: &BucketSettings, bucket: &str) -> Result<Option<AtRestClient>, AddressError> {
    let Some(wanted) = WantedEncryption::of(settings, endpoint_of(settings).is_some()) else { return Ok(None) };
    AtRestClient::new(&client(settings), bucket, wanted).map(Some).map_err(AddressError::Settings)
}

/// The address of a store that is not AWS, by the settings or by the platform (`AWS_ENDPOINT_URL`).
fn endpoint_of(settings: &BucketSettings) -> Option<String> {
    let named = || AmazonS3Builder::from_env().get_config_value(&AmazonS3ConfigKey::Endpoint);
    settings.endpoint.as_ref().map(ToString::to_string).or_else(named)
}

/// Who asks for what is about a bucket of S3 as a whole, and the bucket's own address; `None` for other services.
pub(super) fn administration(settings: &BucketSettings) -> Result<Option<(Aws, Url)>, AddressError> {
    let BucketAddress { service: Service::S3, bucket, .. } = &settings.address else { return Ok(None) };
    let builder = s3(settings, bucket).map_err(AddressError::Settings)?;
    let value = |key| builder.get_config_value(&key);
    let region = value(AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
    let base = match value(AmazonS3ConfigKey::Endpoint) {
        // The bucket's name stands in its host already.
        Some(endpoint) if settings.path_style == Some(false) => endpoint,
        Some(endpoint) => format!("{endpoint}/{bucket}"),
        None => format!("https://s3.{region}.{}/{bucket}", aws::domain(&region)),
    };
    let base = base.parse().map_err(|_| AddressError::Unknown(base))?;
    let credentials = builder.build().map_err(AddressError::Settings)?.credentials().clone();
    Ok(Some((Aws::new(credentials, &region, &client(settings), settings.timeout)?, base)))
}

fn both<S: ObjectStore + Signer>(store: S) -> (Arc<dyn ObjectStore>, Option<Arc<dyn Signer>>) {
    let store = Arc::new(store);
    (Arc::clone(&store) as Arc<dyn ObjectStore>, Some(store))
}

fn s3(settings: &BucketSettings, bucket: &str) -> Result<AmazonS3Builder, object_store::Error> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(PathsOnly)
        .with_client_options(client(settings))
        .with_retry(retry(settings));
    if let Some((id, secret)) = &settings.access_key {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    let endpoint = endpoint_of(settings);
    let path_style = settings.path_style.unwrap_or(endpoint.is_some());
    if let Some(endpoint) = &endpoint {
        let endpoint = endpoint.trim_end_matches('/');
        builder = builder.with_endpoint(if path_style { endpoint.to_owned() } else { in_host(endpoint, bucket) });
    }
    builder = builder.with_virtual_hosted_style_request(!path_style);
    if let Some(wanted) = WantedEncryption::of(settings, endpoint.is_some()) {
        builder = builder.with_config("aws_server_side_encryption".parse()?, wanted.kind);
    }
    if settings.encryption == Encryption::Kms {
        builder = builder.with_bucket_key(settings.bucket_key);
        if let Some(key) = &settings.kms_key {
            builder = builder.with_config("aws_sse_kms_key_id".parse()?, key);
        }
    }
    Ok(builder)
}

/// An address with the bucket's name in its host.
fn in_host(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{bucket}.{rest}"),
        None => endpoint.to_owned(),
    }
}

fn client(settings: &BucketSettings) -> ClientOptions {
    ClientOptions::new()
        // Whoever names an address without TLS has decided so.
        .with_allow_http(settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http"))
        .with_connect_timeout(settings.timeout.min(Duration::from_secs(5)))
        // Not for a whole body, which a slow client may drain for an hour.
        .with_timeout_disabled()
        .with_read_timeout(settings.idle)
}

fn retry(settings: &BucketSettings) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: settings.attempts.saturating_sub(1) as usize,
        retry_timeout: settings.timeout,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for text in ["memory:", "s3://bucket", "s3://bucket/a/b", "gs://bucket/p", "az://container"] {
            assert_eq!(text.parse::<BucketAddress>().unwrap().to_string(), text);
        }
        assert_eq!("s3://bucket/a/".parse::<BucketAddress>().unwrap().to_string(), "s3://bucket/a");
        for text in
            ["", "bucket", "s3:bucket", "s3://", "ftp://x/y", "s3://b/../c", "s3://b//c", "s3://b/c?d", "s3://a b"]
        {
            assert!(text.parse::<BucketAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn places_overlap_when_one_lies_within_the_other() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (one.parse::<BucketAddress>().unwrap(), other.parse::<BucketAddress>().unwrap());
            assert_eq!(one.overlaps(&other), other.overlaps(&one));
            one.overlaps(&other)
        };
        assert!(overlap("s3://a", "s3://a") && overlap("s3://a", "s3://a/b") && overlap("s3://a/b", "s3://a/b/c"));
        assert!(!overlap("s3://a/b", "s3://a/bc") && !overlap("s3://a", "s3://b") && !overlap("s3://a", "gs://a"));
        assert!(!overlap("memory:", "memory:"));
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| Location::Directory(folder.path().join(path));
        std::fs::create_dir_all(folder.path().join("one/within")).unwrap();
        assert!(at("one").overlaps(&at("one/within")) && at("one/../one").overlaps(&at("one")));
        assert!(!at("one").overlaps(&at("two")));
    }

    #[test]
    fn a_bucket_name_can_stand_in_the_host() {
        assert_eq!(in_host("https://store.example", "mine"), "https://mine.store.example");
    }
}
