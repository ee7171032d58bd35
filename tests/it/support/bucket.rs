//! Stores over an S3 server of the test's own.

use std::time::Duration;

use holdfast::secret::Secret;
use holdfast::storage::{BucketSettings, Location};

use super::object_server::ObjectServer;

/// Id and secret of a key that our server takes, moto too, and that is the one pair that s3rver knows.
pub(crate) const CREDENTIALS: (&str, &str) = ("S3RVER", "S3RVER");

/// Where a store on that server is, with patience for a test: trouble shows in seconds.
pub(crate) fn location(server: &ObjectServer, address: &str) -> Location {
    Location::Bucket(Box::new(bucket(server.url(), address)))
}

/// The same for any server that speaks S3.
pub(crate) fn bucket(url: &str, address: &str) -> BucketSettings {
    BucketSettings {
        address: address.parse().unwrap(),
        endpoint: Some(url.parse().unwrap()),
        region: Some("us-east-1".to_owned()),
        access_key: Some((CREDENTIALS.0.to_owned(), Secret::new(CREDENTIALS.1))),
        timeout: Duration::from_secs(5),
        idle: Duration::from_secs(1),
        ..BucketSettings::default()
    }
}

/// The variables with which a process finds a store on that server.
pub(crate) fn variables(server: &ObjectServer, address: &str) -> Vec<(&'static str, String)> {
    vec![
        ("HOLDFAST__STORAGE__URL", address.to_owned()),
        ("HOLDFAST__STORAGE__ENDPOINT", server.url().to_owned()),
        ("HOLDFAST__STORAGE__REGION", "us-east-1".to_owned()),
        ("HOLDFAST__STORAGE__ACCESS_KEY_ID", "test".to_owned()),
        ("HOLDFAST__STORAGE__SECRET_ACCESS_KEY", "test".to_owned()),
    ]
}
