//! The incidents of 2025 and 2026, played again minute by minute: what an install would have got from the public registry,
//! and what it gets through here with the default settings. `docs/incidents.md` has the outcome as a table.
//!
//! Which version was there when, and which of that is known, is in `support/incidents.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use holdfast::npm::Timestamp;
use nodejs_semver::{Range, Version};
use serde_json::{Map, Value};

use crate::docs;
use crate::support::app::{Caller, TestApp, behind, path_of};
use crate::support::http::{Answer, Http};
use crate::support::incidents::{self, Incident};
use crate::support::upstream::Upstream;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR_MILLIS: i64 = 60 * 60 * 1000;

/// What somebody gets at one minute who asks for a range of a package, or for a tag.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Got {
    /// From the registry itself.
    direct: String,
    /// Here.
    here: String,
    /// Here, by the tag `latest`.
    latest: String,
    /// Here, by a lockfile that was written with what the registry itself gives.
    locked: String,
}

/// Minutes in a row with the same outcome.
struct Line {
    wanted: String,
    from: Timestamp,
    minutes: usize,
    got: Got,
}

/// A package as the upstream has it.
struct Original {
    versions: Map<String, Value>,
    times: Value,
    latest: String,
}

impl Original {
    async fn of(http: &Http, package: &str) -> Option<Self> {
        let answer = http.get(&path_of(package)).await;
        let document = (answer.status == 200).then(|| answer.json())?;
        Some(Self {
            versions: document["versions"].as_object().unwrap().clone(),
            times: document["time"].clone(),
            latest: document["dist-tags"]["latest"].as_str().unwrap().to_owned(),
        })
    }

    /// What clients take of those that are offered: `latest` where it fits, and otherwise the highest that does. When what
    /// `latest` points to is not offered, it points to the highest that is and is not above it: also back to an older line,
    /// while a malicious back-port has it.
    fn pick(&self, wanted: &str, is_offered: impl Fn(&str) -> bool) -> Option<String> {
        let offered = self.versions.keys().filter(|version| is_offered(version));
        let mut offered: Vec<Version> = offered.map(|version| version.parse().unwrap()).collect();
        offered.sort();
        let target: Version = self.latest.parse().unwrap();
        let latest = offered.iter().rfind(|version| **version <= target);
        if wanted == "latest" {
            return latest.map(ToString::to_string);
        }
        let range: Range = wanted.parse().unwrap();
        let fits = |version: &&Version| range.satisfies(version);
        latest.filter(fits).or(offered.iter().rfind(fits)).map(ToString::to_string)
    }

    fn is_three_days_old(&self, version: &str, now: Timestamp) -> bool {
        let published: Timestamp = self.times[version].as_str().unwrap().parse().unwrap();
        published.as_millis() + 72 * HOUR_MILLIS <= now.as_millis()
    }
}

/// A refusal: its status and its code.
fn told(answer: &Answer) -> String {
    format!("{} {}", answer.status.as_u16(), answer.json()["code"].as_str().unwrap())
}

async fn got(app: &Caller, package: &str, wanted: &str, direct: &str) -> Got {
    let path = path_of(package);
    let document = app.get_abbreviated(&path).await;
    let resolved = app.get(&format!("{path}/{wanted}")).await;
    let basename = package.rsplit('/').next().unwrap();
    let locked = app.get(&format!("{path}/-/{basename}-{direct}.tgz")).await;
    let text = |answer: &Answer, pointer: &str| match answer.status.as_u16() {
        200 => answer.json().pointer(pointer).unwrap().as_str().unwrap().to_owned(),
        _ => told(answer),
    };
    Got {
        direct: direct.to_owned(),
        here: text(&resolved, "/version"),
        latest: text(&document, "/dist-tags/latest"),
        locked: if locked.status == 200 { "installed".to_owned() } else { told(&locked) },
    }
}

/// Plays an incident from an instant to a minute after its end. The lines are of those minutes in which the registry
/// itself gave out something malicious. The others are looked at where something has just come or gone.
async fn play(incident: &Incident, from: Timestamp) -> Vec<Line> {
    let end = incident.window().1;
    let upstream = Upstream::start([]);
    let http = Http::new(upstream.url());
    let app = TestApp::at(from, |settings| {
        behind(settings, &upstream, &[]);
        // Asked each time: the upstream changes from minute to minute.
        let freshness = &mut settings.upstreams[0].client.freshness;
        (freshness.longest, freshness.default, freshness.negative) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    });
    let changes = incident.changes();
    let (mut lines, mut originals, mut last_change) = (Vec::new(), BTreeMap::new(), None);
    while app.clock.now() <= end.plus(MINUTE) {
        let now = app.clock.now();
        let change = changes.iter().copied().rfind(|change| *change <= now);
        let has_changed = change != last_change || last_change.is_none();
        if has_changed {
            incident.put(&upstream, now);
            last_change = change;
            originals.clear();
            for (package, _) in incident.wanted {
                originals.extend(Original::of(&http, package).await.map(|original| (*package, original)));
            }
        }
        for (package, wanted) in incident.wanted {
            let Some(original) = originals.get(package) else { continue };
            let Some(direct) = original.pick(wanted, |_| true) else { continue };
            if !has_changed && !incident.is_bad(package, &direct) {
                continue;
            }
            let got = got(&app.anybody(), package, wanted, &direct).await;
            check(incident, (package, wanted), original, now, &got);
            if incident.is_bad(package, &direct) {
                note(&mut lines, format!("{package}@{wanted}"), now, got);
            }
        }
        app.clock.advance(MINUTE);
    }
    lines
}

/// What has to be so at every minute: nothing malicious, and where there is a good version that is three days old, what a
/// client takes of those, so that no build breaks.
fn check(incident: &Incident, (package, wanted): (&str, &str), original: &Original, now: Timestamp, got: &Got) {
    let what = format!("{}: {package}@{wanted} at {now}: {got:?}", incident.name);
    let is_offered = |version: &str| !incident.is_bad(package, version) && original.is_three_days_old(version, now);
    match original.pick(wanted, is_offered) {
        Some(expected) => assert_eq!(got.here, expected, "{what}"),
        None => assert_eq!(got.here, "403 held", "{what}"),
    }
    assert!(!incident.is_bad(package, &got.latest), "{what}");
    if incident.is_bad(package, &got.direct) {
        assert!(got.locked.starts_with("403 held"), "{what}");
    }
}

/// Adds a minute: to the last line of what was wanted where the outcome is the same, or as a new one.
fn note(lines: &mut Vec<Line>, wanted: String, now: Timestamp, got: Got) {
    match lines.iter_mut().rfind(|line| line.wanted == wanted).filter(|line| line.got == got) {
        Some(line) => line.minutes += 1,
        None => lines.push(Line { wanted, from: now, minutes: 1, got }),
    }
}

const HEAD: &str = "# The incidents of 2025 and 2026, played again

Each was played minute by minute until a minute after the last malicious version was taken down, with the default settings
and no advisories: only time protects here. A line stands for all minutes in a row in which the public registry gave out the
same malicious version. \"Direct\" is what an install from there got, \"here\" what it gets through Holdfast for the same range,
\"latest\" what it gets for the tag, \"locked\" what a lockfile gets that names the malicious version. What is given out here is
always a good version that is three days old; where there is none, the answer says so.

Names and malicious versions are those of the reports. Contents are stand-ins, and so are minutes that no report has:
`tests/it/support/incidents.rs` says which.
";

#[tokio::test]
async fn no_minute_of_them_would_have_reached_anybody() {
    let mut page = docs::made_from("tests/it/incidents.rs");
    page.push_str(HEAD);
    let mut played: Vec<(Timestamp, Incident)> =
        incidents::all().into_iter().map(|incident| (incident.window().0, incident)).collect();
    // From ten minutes before the dependency comes. Its own hold lets go of the first release half an hour later.
    played.insert(3, ("2026-03-30T23:50:00.000Z".parse().unwrap(), incidents::axios_with_patience()));
    for (from, incident) in played {
        let lines = play(&incident, from).await;
        write!(page, "\n## {}\n\n", incident.name).unwrap();
        page.push_str("| asked for | from (UTC) | minutes | direct | here | latest | locked |\n");
        page.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        for (package, wanted) in incident.wanted {
            let wanted = format!("{package}@{wanted}");
            let mut of_wanted = lines.iter().filter(|line| line.wanted == wanted).peekable();
            assert!(of_wanted.peek().is_some(), "{}: {wanted} was never bad", incident.name);
            for Line { from, minutes, got: Got { direct, here, latest, locked }, .. } in of_wanted {
                let from = from.to_string();
                let (day, minute) = (&from[..10], &from[11..16]);
                writeln!(page, "| `{wanted}` | {day} {minute} | {minutes} | {direct} | {here} | {latest} | {locked} |")
                    .unwrap();
            }
        }
    }
    docs::check("incidents.md", &page);
}
