//! A bucket as codebox-npm leaves it, object by object, and an application that is put in that system's place.
//!
//! The steps are those of its last release: what it keeps of a client's document, what it forgets, what it never checks.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast::settings::{Flags, Settings};
use serde_json::{Map, Value, json};

use super::app::{Caller, TestApp, path_of};
use super::github::GitHub;
use super::http::publish_document;
use super::tarballs::Tarball;
use super::upstream::Upstream;

/// Where the older system was.
const HOST: &str = "https://a1b2c3.execute-api.eu-west-1.example.test/prod/registry";

/// The objects of a bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    objects: BTreeMap<String, Vec<u8>>,
    /// Stands in the addresses of tarballs; `undefined` where a deployment had gone wrong.
    endpoint: Option<&'static str>,
    /// Releases before 0.21.2 kept the tarballs of all versions in the document.
    keeps_all_attachments: bool,
}

impl Bucket {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What is published from now on gets addresses that begin with this.
    pub(crate) fn endpoint(mut self, endpoint: &'static str) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// What is published from now on is published with a release before 0.21.2.
    pub(crate) fn keeping_all_attachments(mut self) -> Self {
        self.keeps_all_attachments = true;
        self
    }

    /// A publish.
    pub(crate) fn publish(mut self, tarball: &Tarball, tag: &str) -> Self {
        let mut body = publish_document(tarball, tag);
        let (name, version) = (text(&tarball.manifest["name"]), text(&tarball.manifest["version"]));
        let path = path_of(&name);
        let file = format!("{name}-{version}.tgz").replace('@', "%40").replace('/', "%2F");
        let endpoint = self.endpoint.unwrap_or(HOST);
        let dist = &mut body["versions"][&version]["dist"];
        dist["tarball"] = json!(format!("{endpoint}{path}/-/{file}"));
        // npm 4 and older knew of no integrity.
        dist.as_object_mut().unwrap().remove("integrity");
        body["description"] = json!(format!("as of {version}"));
        body["readme"] = json!(format!("# {name} {version}\n"));
        let document = match self.find(&name) {
            None => {
                body["dist-tags"]["latest"] = json!(version);
                body
            }
            Some(mut stored) => {
                stored["dist-tags"][tag] = json!(version);
                stored["versions"][&version] = body["versions"][&version].take();
                if self.keeps_all_attachments {
                    let new = body["_attachments"].as_object().unwrap().clone();
                    stored["_attachments"].as_object_mut().unwrap().extend(new);
                } else {
                    stored["_attachments"] = body["_attachments"].take();
                }
                stored
            }
        };
        self.objects.insert(format!("{name}/{version}.tgz"), tarball.bytes());
        self.with(&name, &document)
    }

    /// `npm deprecate`: what the client had read, with a message, stored as it is.
    pub(crate) fn deprecate(self, name: &str, version: &str, message: &str) -> Self {
        let mut document = self.document(name);
        document["_attachments"] = json!({});
        document["versions"][version]["deprecated"] = json!(message);
        self.with(name, &document)
    }

    /// `npm deprecate` of a public package: from then on that document stands there.
    pub(crate) async fn freeze(self, upstream: &Upstream, name: &str, version: &str, message: &str) -> Self {
        let mut document = super::http::Http::new(upstream.url()).get(&path_of(name)).await.ok().json();
        document["versions"][version]["deprecated"] = json!(message);
        self.with(name, &document)
    }

    /// `npm dist-tag add`, with the tag as it stands in the address.
    pub(crate) fn tag(self, name: &str, tag: &str, version: &str) -> Self {
        self.change(name, |document| document["dist-tags"][tag] = json!(version))
    }

    /// Anything else that may have become of a document.
    pub(crate) fn change(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut document = self.document(name);
        change(&mut document);
        self.with(name, &document)
    }

    /// A document as it stands.
    pub(crate) fn with(self, name: &str, document: &Value) -> Self {
        self.with_object(&format!("{name}/index.json"), document.to_string())
    }

    /// An object of any kind.
    pub(crate) fn with_object(mut self, key: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.objects.insert(key.to_owned(), bytes.into());
        self
    }

    /// Loses an object.
    pub(crate) fn without_object(mut self, key: &str) -> Self {
        self.objects.remove(key).unwrap_or_else(|| panic!("there is no {key}"));
        self
    }

    pub(crate) fn document(&self, name: &str) -> Value {
        self.find(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub(crate) fn object(&self, key: &str) -> &[u8] {
        &self.objects[key]
    }

    fn find(&self, name: &str) -> Option<Value> {
        self.objects.get(&format!("{name}/index.json")).map(|bytes| serde_json::from_slice(bytes).unwrap())
    }

    pub(crate) fn objects(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.objects
    }

    /// Writes all of it into a directory.
    pub(crate) fn write_to(&self, directory: &Path) {
        for (key, bytes) in &self.objects {
            let path = directory.join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A bucket with one of everything.
pub(crate) async fn everything(upstream: &Upstream) -> Bucket {
    Bucket::new()
        .endpoint("undefined")
        .publish(&Tarball::new("old-tool", "1.0.0"), "latest")
        .endpoint(HOST)
        .publish(&Tarball::new("old-tool", "1.1.0"), "latest")
        .publish(&Tarball::new("old-tool", "2.0.0-rc.1"), "next")
        .publish(&Tarball::new("@acme/old", "1.0.0-beta.1"), "beta")
        .publish(&Tarball::new("@acme/old", "1.0.0"), "latest")
        .deprecate("@acme/old", "1.0.0-beta.1", "use 1.0.0")
        .tag("old-tool", "a%2Bb", "1.0.0")
        .freeze(upstream, "left", "1.0.0", "we use 1.2.0")
        .await
}

/// The application in the older system's place: Ada administers and is a member of acme, bob is a member, carol
/// administers and is none any more, eve is a stranger.
pub(crate) struct Place {
    pub(crate) app: TestApp,
    pub(crate) github: GitHub,
    pub(crate) upstream: Upstream,
}

impl Place {
    /// Over a bucket, with the older system's variables and settings of ours.
    pub(crate) async fn over(bucket: &Bucket, upstream: Upstream, own: &[(&'static str, &str)]) -> Self {
        let github = GitHub::start().await;
        for name in ["Ada", "bob", "carol", "eve"] {
            github.add_user(name);
        }
        github.add_member("acme", "Ada", false);
        github.add_member("acme", "bob", false);
        let environment = [
            ("githubClientId", GitHub::CLIENT_ID),
            ("githubSecret", GitHub::CLIENT_SECRET),
            ("githubUrl", &github.api_url()),
            ("registry", upstream.url()),
            ("admins", "Ada,carol"),
            ("restrictedOrgs", "acme"),
            ("region", "eu-west-1"),
            // Recognised, and of no use yet.
            ("clientId", "insights"),
            ("secret", "insights"),
            ("logTopic", ""),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let app = TestApp::with(|settings| {
            let directory = settings.storage.directory.clone();
            bucket.write_to(&directory);
            let mut values: Vec<_> = own.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            values.push(("storage.directory", directory.display().to_string()));
            *settings = Settings::load_with(&Flags { file: None, values }, environment).unwrap().settings;
            settings.upstreams[0].client.retries = 0;
        });
        Self { app, github, upstream }
    }

    /// Somebody with the token of the older system that is in their `.npmrc`.
    pub(crate) fn with_old_token(&self, login: &str) -> Caller {
        self.app.anybody().with_token(&self.github.old_oauth_token(login))
    }

    /// The stored document of a package.
    pub(crate) fn stored(&self, name: &str) -> Value {
        serde_json::from_slice(&self.app.files()[&format!("{name}/index.json")]).unwrap()
    }
}

/// A document without what the takeover adds, for comparisons with the one that was there.
pub(crate) fn without_additions(document: &Value) -> Value {
    let mut document = document.clone();
    let members: &mut Map<String, Value> = document.as_object_mut().unwrap();
    for added in ["_rev", "_holdfast", "time", "_attachments"] {
        members.remove(added);
    }
    for version in members["versions"].as_object_mut().unwrap().values_mut() {
        if let Some(dist) = version["dist"].as_object_mut() {
            dist.remove("integrity");
        }
    }
    document
}
