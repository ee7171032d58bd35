//! Four attacks of 2025 and 2026 as timelines: which version of which package was there from when to when.
//!
//! An upstream can be made to look as the public registry did at an instant, so that a test with a held clock walks
//! through the hours of an attack. The names, the numbers of the malicious versions, their scripts and dependencies and
//! how they were published are those of the public reports. Each incident says which of its instants are, and which only
//! stand in; the instants and numbers of the releases before the attack are stand-ins throughout. The scripts do
//! nothing but write `ran.txt`, and the packages are a few of the many.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::npm::Timestamp;
use serde_json::json;

use super::package::Package;
use super::tarballs::Tarball;
use super::upstream::Upstream;

/// An attack.
#[derive(Debug, Clone)]
pub(crate) struct Incident {
    pub(crate) name: &'static str,
    /// What projects of the time ask for: a package and a range that the malicious version is in.
    pub(crate) wanted: &'static [(&'static str, &'static str)],
    releases: Vec<Release>,
}

/// A version that was there for a while.
#[derive(Debug, Clone)]
struct Release {
    package: &'static str,
    version: &'static str,
    published: Timestamp,
    taken_down: Option<Timestamp>,
    /// By the attackers.
    is_bad: bool,
    tag: &'static str,
    dependencies: &'static [(&'static str, &'static str)],
    optional: &'static [(&'static str, &'static str)],
    /// A script, and the file that it runs.
    script: Option<(&'static str, &'static str)>,
    publisher: Publisher,
}

/// How a version was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publisher {
    /// By a person or a script, with a token.
    Token,
    /// By a workflow that the package trusts, with provenance.
    Workflow,
}

/// All of them, oldest first.
pub(crate) fn all() -> Vec<Incident> {
    vec![shai_hulud_september(), shai_hulud_november(), axios(), tanstack()]
}

/// Shai-Hulud, September 2025: a worm that publishes a patch of everything that a stolen token reaches, with a script
/// that runs after the install.
///
/// From reports: the packages and versions; 14 September 17:58:50 for the first of them; 15 September 19:52 for the
/// first of tinycolor's, and that they were gone when their maintainer was told of it, that evening. All else stands in.
pub(crate) fn shai_hulud_september() -> Incident {
    let spreads = |package, version, published| {
        bad(package, version, published).until("2025-09-15T23:30:00.000Z").runs("postinstall", "bundle.js")
    };
    Incident {
        name: "Shai-Hulud, September 2025",
        wanted: &[
            ("@ctrl/tinycolor", "^4.1.0"),
            ("angulartics2", "^14.0.0"),
            ("ngx-bootstrap", "^18.1.0"),
            ("ngx-bootstrap", "^20.0.0"),
            ("@crowdstrike/commitlint", "^8.1.0"),
            ("rxnt-authentication", "*"),
        ],
        releases: vec![
            good("rxnt-authentication", "0.0.2", "2024-11-05T10:00:00.000Z"),
            spreads("rxnt-authentication", "0.0.3", "2025-09-14T17:58:50.000Z"),
            good("@ctrl/tinycolor", "4.1.0", "2024-05-02T09:00:00.000Z"),
            spreads("@ctrl/tinycolor", "4.1.1", "2025-09-15T19:52:00.000Z"),
            spreads("@ctrl/tinycolor", "4.1.2", "2025-09-15T20:31:00.000Z"),
            good("angulartics2", "14.1.0", "2024-10-01T09:00:00.000Z"),
            spreads("angulartics2", "14.1.1", "2025-09-15T19:53:00.000Z"),
            spreads("angulartics2", "14.1.2", "2025-09-15T20:32:00.000Z"),
            good("ngx-bootstrap", "18.1.3", "2024-09-12T09:00:00.000Z").tagged("v18"),
            good("ngx-bootstrap", "20.0.2", "2025-08-20T09:00:00.000Z"),
            // The worm gives no tag, so that a back-port becomes `latest` for two minutes.
            spreads("ngx-bootstrap", "18.1.4", "2025-09-15T21:00:00.000Z"),
            spreads("ngx-bootstrap", "20.0.3", "2025-09-15T21:02:00.000Z"),
            good("@crowdstrike/commitlint", "8.1.0", "2025-02-11T09:00:00.000Z"),
            spreads("@crowdstrike/commitlint", "8.1.1", "2025-09-16T01:14:00.000Z").until("2025-09-16T05:40:00.000Z"),
            spreads("@crowdstrike/commitlint", "8.1.2", "2025-09-16T01:15:00.000Z").until("2025-09-16T05:40:00.000Z"),
        ],
    }
}

/// Shai-Hulud, November 2025: the same again, with a script that runs before the install.
///
/// From reports: the packages and versions; 24 November 03:16 for the first of them, 04:11 for those of `posthog-node`,
/// which were gone about five hours later. All else stands in. One good release stands in on purpose at two days before:
/// what a hold of three days falls back to is the one before that.
pub(crate) fn shai_hulud_november() -> Incident {
    let spreads = |package, version, published| {
        bad(package, version, published).until("2025-11-24T09:30:00.000Z").runs("preinstall", "setup_bun.js")
    };
    Incident {
        name: "Shai-Hulud, November 2025",
        wanted: &[
            ("go-template", "^0.1.7"),
            ("@asyncapi/specs", "^6.8.0"),
            ("@asyncapi/specs", "~6.8.0"),
            ("@zapier/zapier-sdk", "^0.15.0"),
            ("@postman/tunnel-agent", "^0.6.4"),
            ("posthog-node", "^4.18.0"),
            ("posthog-node", "^5.11.0"),
        ],
        releases: vec![
            good("go-template", "0.1.7", "2025-03-04T09:00:00.000Z"),
            spreads("go-template", "0.1.8", "2025-11-24T03:16:00.000Z"),
            spreads("go-template", "0.1.9", "2025-11-24T03:17:00.000Z"),
            good("@asyncapi/specs", "6.8.1", "2025-01-14T09:00:00.000Z"),
            good("@asyncapi/specs", "6.9.0", "2025-06-03T09:00:00.000Z"),
            good("@asyncapi/specs", "6.10.0", "2025-09-09T09:00:00.000Z"),
            spreads("@asyncapi/specs", "6.8.2", "2025-11-24T03:20:00.000Z"),
            spreads("@asyncapi/specs", "6.8.3", "2025-11-24T03:21:00.000Z"),
            spreads("@asyncapi/specs", "6.9.1", "2025-11-24T03:22:00.000Z"),
            spreads("@asyncapi/specs", "6.10.1", "2025-11-24T03:23:00.000Z"),
            good("@zapier/zapier-sdk", "0.15.4", "2025-11-12T09:00:00.000Z"),
            spreads("@zapier/zapier-sdk", "0.15.5", "2025-11-24T03:50:00.000Z"),
            spreads("@zapier/zapier-sdk", "0.15.6", "2025-11-24T03:55:00.000Z"),
            spreads("@zapier/zapier-sdk", "0.15.7", "2025-11-24T04:00:00.000Z"),
            good("@postman/tunnel-agent", "0.6.4", "2024-06-18T09:00:00.000Z"),
            spreads("@postman/tunnel-agent", "0.6.5", "2025-11-24T05:09:00.000Z"),
            spreads("@postman/tunnel-agent", "0.6.6", "2025-11-24T05:12:00.000Z"),
            good("posthog-node", "4.18.0", "2025-05-27T09:00:00.000Z").tagged("v4"),
            good("posthog-node", "5.11.2", "2025-10-30T09:00:00.000Z"),
            good("posthog-node", "5.13.1", "2025-11-18T09:00:00.000Z"),
            good("posthog-node", "5.13.2", "2025-11-22T09:00:00.000Z"),
            spreads("posthog-node", "4.18.1", "2025-11-24T04:11:00.000Z"),
            spreads("posthog-node", "5.11.3", "2025-11-24T04:12:00.000Z"),
            spreads("posthog-node", "5.13.3", "2025-11-24T04:13:00.000Z"),
        ],
    }
}

/// axios, March 2026: a stolen token publishes two releases that add a dependency, and the dependency has a script. It
/// was there first, by a few hours as a harmless release.
///
/// From reports, to the minute: all instants of the attack (the seconds stand in). The three hours and 26 minutes that
/// are told of it are those of the dependency. axios itself was clean, and came without the provenance that it has
/// otherwise.
pub(crate) fn axios() -> Incident {
    const BEFORE: &[(&str, &str)] =
        &[("follow-redirects", "^1.15.11"), ("form-data", "^4.0.5"), ("proxy-from-env", "^2.1.0")];
    const AFTER: &[(&str, &str)] = &[
        ("follow-redirects", "^1.15.11"),
        ("form-data", "^4.0.5"),
        ("proxy-from-env", "^2.1.0"),
        ("plain-crypto-js", "^4.2.1"),
    ];
    const GONE: &str = "2026-03-31T03:15:00.000Z";
    const HELD: &str = "2026-03-31T03:25:00.000Z";
    Incident {
        name: "axios, March 2026",
        wanted: &[("axios", "^1.13.0"), ("axios", "^0.30.0"), ("axios", "latest"), ("plain-crypto-js", "^4.2.0")],
        releases: vec![
            good("follow-redirects", "1.15.11", "2025-08-12T09:00:00.000Z"),
            good("form-data", "4.0.5", "2025-11-17T09:00:00.000Z"),
            good("proxy-from-env", "2.1.0", "2026-01-20T09:00:00.000Z"),
            good("axios", "0.30.3", "2026-02-18T09:00:00.000Z").tagged("legacy").depends(BEFORE),
            good("axios", "1.13.6", "2026-02-27T09:00:00.000Z").depends(BEFORE).by_workflow(),
            good("axios", "1.14.0", "2026-03-27T19:01:00.000Z").depends(BEFORE).by_workflow(),
            bad("plain-crypto-js", "4.2.0", "2026-03-30T05:57:00.000Z").until(HELD),
            bad("plain-crypto-js", "4.2.1", "2026-03-30T23:59:00.000Z").until(HELD).runs("postinstall", "setup.js"),
            bad("axios", "1.14.1", "2026-03-31T00:21:00.000Z").until(GONE).depends(AFTER),
            bad("axios", "0.30.4", "2026-03-31T01:00:00.000Z").until(GONE).depends(AFTER).tagged("legacy"),
            // What the public registry puts in the place of malware, so that nobody takes the name again.
            good("plain-crypto-js", "0.0.1-security.0", "2026-03-31T04:26:00.000Z"),
        ],
    }
}

/// [`axios`], had its attackers waited: both releases stand in at three days before they came, so that their own hold is
/// over when the dependency comes. This did not happen; it is what holding new dependencies is for.
pub(crate) fn axios_with_patience() -> Incident {
    const WAITED: i64 = 3 * 24 * 60 * 60 * 1000;
    let mut incident = axios();
    for release in incident.releases.iter_mut().filter(|release| release.is_bad && release.package == "axios") {
        release.published = Timestamp::from_millis(release.published.as_millis() - WAITED);
    }
    Incident { name: "axios, as if its releases had come three days before their dependency", ..incident }
}

/// `TanStack`, 11 May 2026: a workflow with a poisoned cache publishes two rounds of releases, trusted and with valid
/// provenance. They add an optional dependency on a git commit, whose script does the work. 84 versions of 42 packages.
///
/// From reports: the packages and versions; 19:20 and 19:26:14 for the two rounds, 22:13:38 for the end of one of them,
/// which stands in for all.
pub(crate) fn tanstack() -> Incident {
    // The one of the reports is with GitHub. This one is nowhere, in case that a client gets to see it.
    const SETUP: &[(&str, &str)] = &[("@tanstack/setup", "git+https://git.invalid/tanstack/router.git#setup")];
    let poisoned = |package, version, published| {
        let release = bad(package, version, published).until("2026-05-11T22:13:38.000Z").by_workflow();
        Release { optional: SETUP, ..release }
    };
    let rounds = |package, good_one, first, second| {
        [
            good(package, good_one, "2026-05-01T09:00:00.000Z").by_workflow(),
            poisoned(package, first, "2026-05-11T19:20:00.000Z"),
            poisoned(package, second, "2026-05-11T19:26:14.000Z"),
        ]
    };
    Incident {
        name: "TanStack, May 2026",
        wanted: &[
            ("@tanstack/react-router", "^1.168.0"),
            ("@tanstack/router-core", "^1.169.2"),
            ("@tanstack/history", "^1.161.6"),
            ("@tanstack/react-start", "^1.167.0"),
            ("@tanstack/router-plugin", "^1.167.0"),
            ("@tanstack/router-cli", "^1.166.0"),
        ],
        releases: [
            rounds("@tanstack/react-router", "1.169.2", "1.169.5", "1.169.8"),
            rounds("@tanstack/router-core", "1.169.2", "1.169.5", "1.169.8"),
            rounds("@tanstack/history", "1.161.6", "1.161.9", "1.161.12"),
            rounds("@tanstack/react-start", "1.167.65", "1.167.68", "1.167.71"),
            rounds("@tanstack/router-plugin", "1.167.35", "1.167.38", "1.167.41"),
            rounds("@tanstack/router-cli", "1.166.43", "1.166.46", "1.166.49"),
        ]
        .concat(),
    }
}

impl Incident {
    /// When the first malicious version came, and when the last one was gone.
    pub(crate) fn window(&self) -> (Timestamp, Timestamp) {
        let bad = || self.releases.iter().filter(|release| release.is_bad);
        let first = bad().map(|release| release.published).min().unwrap();
        (first, bad().filter_map(|release| release.taken_down).max().unwrap())
    }

    /// Every instant of the attack and after it at which a version comes or goes, in order.
    pub(crate) fn changes(&self) -> Vec<Timestamp> {
        let begin = self.window().0;
        let instants = self.releases.iter().flat_map(|release| [Some(release.published), release.taken_down]);
        let instants: BTreeSet<Timestamp> = instants.flatten().filter(|instant| *instant >= begin).collect();
        instants.into_iter().collect()
    }

    /// Whether a version is by the attackers.
    pub(crate) fn is_bad(&self, package: &str, version: &str) -> bool {
        self.releases.iter().any(|release| release.is_bad && (release.package, release.version) == (package, version))
    }

    /// The packages that have a version at an instant.
    pub(crate) fn packages_at(&self, instant: Timestamp) -> Vec<Package> {
        let packages = self.by_package().into_values().filter_map(|releases| package_at(releases, instant));
        packages.collect()
    }

    /// Makes an upstream have what was there at an instant.
    pub(crate) fn put(&self, upstream: &Upstream, instant: Timestamp) {
        let packages = self.packages_at(instant);
        for name in self.by_package().into_keys() {
            match packages.iter().find(|package| package.name() == name) {
                Some(package) => upstream.put(package),
                None => upstream.remove(name),
            }
        }
    }

    /// The releases of each package, oldest first.
    fn by_package(&self) -> BTreeMap<&str, Vec<&Release>> {
        let mut packages: BTreeMap<&str, Vec<&Release>> = BTreeMap::new();
        for release in &self.releases {
            packages.entry(release.package).or_default().push(release);
        }
        for releases in packages.values_mut() {
            releases.sort_by_key(|release| release.published);
        }
        packages
    }
}

/// What the registry has of a package at an instant. `None` before its first version, and when all are taken down.
fn package_at(mut releases: Vec<&Release>, instant: Timestamp) -> Option<Package> {
    releases.retain(|release| release.published <= instant);
    let mut package = Package::new(releases.first()?.package);
    let (gone, there): (Vec<&Release>, Vec<&Release>) =
        releases.iter().copied().partition(|release| release.taken_down.is_some_and(|end| end <= instant));
    if there.is_empty() {
        return None;
    }
    for release in gone {
        package = package.gone(release.version, &release.published.to_string());
    }
    // A tag points to what was published last with it, and goes back when that is taken down.
    for release in &there {
        package = release.add_to(package);
    }
    for release in there {
        package = package.tag(release.tag, release.version);
    }
    let ends = releases.iter().filter_map(|release| release.taken_down).filter(|end| *end <= instant);
    let last = releases.iter().map(|release| release.published).chain(ends).max()?;
    Some(package.modified_text(Some(&last.to_string())))
}

fn good(package: &'static str, version: &'static str, published: &str) -> Release {
    Release {
        package,
        version,
        published: published.parse().unwrap(),
        taken_down: None,
        is_bad: false,
        tag: "latest",
        dependencies: &[],
        optional: &[],
        script: None,
        publisher: Publisher::Token,
    }
}

fn bad(package: &'static str, version: &'static str, published: &str) -> Release {
    Release { is_bad: true, ..good(package, version, published) }
}

impl Release {
    fn until(self, taken_down: &str) -> Self {
        Self { taken_down: Some(taken_down.parse().unwrap()), ..self }
    }

    fn tagged(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    fn depends(self, dependencies: &'static [(&'static str, &'static str)]) -> Self {
        Self { dependencies, ..self }
    }

    fn runs(self, script: &'static str, file: &'static str) -> Self {
        Self { script: Some((script, file)), ..self }
    }

    fn by_workflow(self) -> Self {
        Self { publisher: Publisher::Workflow, ..self }
    }

    fn add_to(&self, package: Package) -> Package {
        let mut tarball = Tarball::new(self.package, self.version);
        for (member, entries) in [("dependencies", self.dependencies), ("optionalDependencies", self.optional)] {
            for (name, range) in entries {
                tarball.manifest[member][*name] = json!(range);
            }
        }
        if let Some((script, file)) = self.script {
            tarball = tarball
                .set("scripts", json!({ script: format!("node {file}") }))
                .file(file, "require('fs').writeFileSync('ran.txt', 'yes')\n");
        }
        let package = package.tarball(tarball).published(self.version, &self.published.to_string());
        match self.publisher {
            Publisher::Token => package,
            Publisher::Workflow => package.provenance(self.version).trusted_publisher(self.version, "github"),
        }
    }
}
