//! The incidents of 2025 and 2026, played again minute by minute: what an install would have got from the public registry,
//! and what it gets through here with the default settings. `docs/incidents.md` has the outcome as a table.
//!
//! Names, versions and how long each was live are as they were reported; minutes are taken from the reports where they have
//! them, and otherwise chosen so that the known duration holds. Contents are stand-ins.

use std::fmt::Write as _;
use std::time::Duration;

use holdfast::npm::Timestamp;
use serde_json::Value;

use crate::docs;
use crate::support::app::{Caller, TestApp, behind, path_of};
use crate::support::http::Answer;
use crate::support::package::Package;
use crate::support::upstream::Upstream;

/// A malicious release, and the good one before it.
struct Incident {
    title: &'static str,
    package: &'static str,
    /// What a project asks for.
    range: &'static str,
    good: &'static str,
    bad: &'static str,
    published: &'static str,
    /// From when on it is played: a minute before, or where something changes.
    played_from: &'static str,
    /// When it was taken down.
    gone: &'static str,
    /// A new package that it pulls in, and when that one was published.
    pulls_in: Option<(&'static str, &'static str, &'static str)>,
    /// It came with valid provenance, by a trusted publisher.
    has_provenance: bool,
}

const INCIDENTS: [Incident; 5] = [
    Incident {
        title: "Shai-Hulud, September 2025",
        package: "@ctrl/tinycolor",
        range: "^4.1.0",
        good: "4.1.0",
        bad: "4.1.2",
        published: "2025-09-15T19:52:00.000Z",
        played_from: "2025-09-15T19:51:00.000Z",
        gone: "2025-09-16T00:30:00.000Z",
        pulls_in: None,
        has_provenance: false,
    },
    Incident {
        title: "Shai-Hulud, November 2025",
        package: "posthog-node",
        range: "^5.11.0",
        good: "5.11.2",
        bad: "5.13.3",
        published: "2025-11-24T04:11:00.000Z",
        played_from: "2025-11-24T04:10:00.000Z",
        gone: "2025-11-24T09:30:00.000Z",
        pulls_in: None,
        has_provenance: false,
    },
    Incident {
        title: "axios, 2026",
        package: "axios",
        range: "^1.14.0",
        good: "1.14.0",
        bad: "1.14.1",
        published: "2026-03-31T00:21:00.000Z",
        played_from: "2026-03-31T00:20:00.000Z",
        gone: "2026-03-31T03:47:00.000Z",
        pulls_in: Some(("plain-crypto-js", "4.2.1", "2026-03-30T23:59:00.000Z")),
        has_provenance: false,
    },
    // What the hold of new dependencies is for: the same, had its author waited for the hold of the package to end.
    Incident {
        title: "axios, as if its new dependency had come three days later",
        package: "axios",
        range: "^1.14.0",
        good: "1.14.0",
        bad: "1.14.1",
        published: "2026-03-28T00:21:00.000Z",
        played_from: "2026-03-30T23:50:00.000Z",
        gone: "2026-03-31T03:47:00.000Z",
        pulls_in: Some(("plain-crypto-js", "4.2.1", "2026-03-30T23:59:00.000Z")),
        has_provenance: false,
    },
    Incident {
        title: "TanStack, May 2026",
        package: "@tanstack/react-router",
        range: "^1.169.0",
        good: "1.169.2",
        bad: "1.169.5",
        published: "2026-05-11T19:20:00.000Z",
        played_from: "2026-05-11T19:19:00.000Z",
        gone: "2026-05-11T22:40:00.000Z",
        pulls_in: None,
        has_provenance: true,
    },
];

impl Incident {
    /// The package as the upstream had it.
    fn package_at(&self, now: Timestamp) -> Package {
        let package = Package::new(self.package).version(self.good).provenance(self.good);
        if now < instant(self.published) {
            return package;
        }
        if now >= instant(self.gone) {
            return package.gone(self.bad, self.published);
        }
        let package = match self.pulls_in {
            Some((name, version, _)) => package.depends(self.bad, &[(name, &format!("^{version}"))]),
            None => package.version(self.bad),
        };
        let package =
            package.scripts(self.bad, &[("postinstall", "node setup.js")]).published(self.bad, self.published);
        if self.has_provenance { package.provenance(self.bad).trusted_publisher(self.bad, "github") } else { package }
    }

    fn put_at(&self, upstream: &Upstream, now: Timestamp) {
        upstream.put(&self.package_at(now));
        if let Some((name, version, published)) = self.pulls_in
            && instant(published) <= now
        {
            upstream.put(&Package::new(name).version(version).published(version, published));
        }
    }
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What an install gets at one minute: of the range that the project has, of the tag, and by a lockfile that names the bad
/// version.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Got {
    direct: String,
    range: String,
    latest: String,
    locked: String,
}

async fn got(incident: &Incident, app: &Caller, now: Timestamp) -> Got {
    let path = path_of(incident.package);
    let resolved = |answer: Answer| match answer.status.as_u16() {
        200 => answer.json()["version"].as_str().unwrap().to_owned(),
        status => told(&answer.json(), status),
    };
    let is_live = instant(incident.published) <= now && now < instant(incident.gone);
    let document = app.get_abbreviated(&path).await.ok().json();
    let basename = incident.package.rsplit('/').next().unwrap();
    let locked = app.get(&format!("{path}/-/{basename}-{}.tgz", incident.bad)).await;
    Got {
        direct: if is_live { incident.bad } else { incident.good }.to_owned(),
        range: resolved(app.get(&format!("{path}/{}", incident.range)).await),
        latest: document["dist-tags"]["latest"].as_str().unwrap().to_owned(),
        locked: match locked.status.as_u16() {
            200 => "installed".to_owned(),
            status => told(&locked.json(), status),
        },
    }
}

fn told(body: &Value, status: u16) -> String {
    format!("{status} {}", body["code"].as_str().unwrap())
}

#[tokio::test]
async fn no_minute_of_them_would_have_reached_anybody() {
    let mut page = docs::made_from("tests/it/incidents.rs");
    page.push_str(
        "# The incidents of 2025 and 2026, played again\n\nEach was played minute by minute, from a minute before the malicious release (the fourth: from the third day) until a minute after it was taken down, with the\n\
         default settings and no advisories: only time protects here. A line stands for all minutes with the same outcome. \"Direct\" is\n\
         what an install from the public registry got for the range, \"range\" and \"latest\" what it gets through Holdfast, \"locked\" what a\n\
         lockfile gets that names the malicious version. Contents are stand-ins, and so are minutes that no report has.\n",
    );
    for incident in &INCIDENTS {
        let upstream = Upstream::start([]);
        let app = TestApp::at(instant(incident.played_from), |settings| {
            behind(settings, &upstream, &[]);
            // Asked each time: the upstream changes from minute to minute.
            settings.upstreams[0].client.freshness.longest = Duration::ZERO;
            settings.upstreams[0].client.freshness.default = Duration::ZERO;
            settings.upstreams[0].client.freshness.negative = Duration::ZERO;
        });
        write!(
            page,
            "\n## {}\n\n`{}@{}` was asked for; {} was malicious.\n\n",
            incident.title, incident.package, incident.range, incident.bad
        )
        .unwrap();
        page.push_str(
            "| from (UTC) | minutes | direct | range | latest | locked |\n| --- | --- | --- | --- | --- | --- |\n",
        );
        let mut lines: Vec<(Timestamp, usize, Got)> = Vec::new();
        while app.clock.now() <= instant(incident.gone).plus(Duration::from_mins(1)) {
            let now = app.clock.now();
            incident.put_at(&upstream, now);
            let got = got(incident, &app.anybody(), now).await;
            assert_eq!(
                (got.range.as_str(), got.latest.as_str()),
                (incident.good, incident.good),
                "{now} {}",
                incident.title
            );
            assert_ne!(got.locked, "installed", "{now} {}", incident.title);
            match lines.last_mut().filter(|(_, _, last)| *last == got) {
                Some((_, minutes, _)) => *minutes += 1,
                None => lines.push((now, 1, got)),
            }
            app.clock.advance(Duration::from_mins(1));
        }
        assert!(lines.iter().any(|(_, _, got)| got.direct == incident.bad));
        for (from, minutes, Got { direct, range, latest, locked }) in lines {
            let from = from.to_string();
            writeln!(
                page,
                "| {} {} | {minutes} | {direct} | {range} | {latest} | {locked} |",
                &from[..10],
                &from[11..16]
            )
            .unwrap();
        }
    }
    docs::check("incidents.md", &page);
}
