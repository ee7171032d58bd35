//! Which events are wanted.

use super::{Decision, Event, Kind};
use crate::npm::{PackageName, Pattern, Timestamp};

/// Which events are wanted: all that fit everything that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not older.
    pub since: Option<Timestamp>,
    /// Older than this.
    pub until: Option<Timestamp>,
    /// Of one of these kinds, see [`Filter::kind`]; of all, where there are none.
    pub kinds: Vec<Kind>,
    /// Of these packages.
    pub package: Option<Pattern>,
    /// By somebody of this name, in any case.
    pub who: Option<String>,
    /// Only what was refused.
    pub refused: bool,
}

impl Filter {
    /// The kinds that a word means: one, such as `package.publish`, or all of an area, such as `package`. None for a word that
    /// means nothing.
    pub fn kind(word: &str) -> Vec<Kind> {
        let is_meant = |kind: &Kind| {
            let rest = kind.as_str().strip_prefix(word);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Kind::ALL.iter().copied().filter(is_meant).collect()
    }

    /// Whether an event is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        let at = event.at.parse::<Timestamp>().ok();
        let of = event.package.as_ref().and_then(|name| name.parse::<PackageName>().ok());
        let by = event.who.name.as_ref().map(|name| name.to_lowercase());
        self.since.is_none_or(|since| at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| at.is_some_and(|at| at < until))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.package.as_ref().is_none_or(|wanted| of.is_some_and(|name| wanted.matches(&name)))
            && self.who.as_ref().is_none_or(|wanted| by.is_some_and(|name| name == wanted.to_lowercase()))
            && (!self.refused || event.decision == Decision::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Who;

    #[test]
    fn a_word_means_a_kind_or_an_area() {
        assert_eq!(Filter::kind("package.publish"), [Kind::Publish]);
        assert_eq!(Filter::kind("sign-in"), [Kind::SignIn, Kind::SignInRefused]);
        assert_eq!(Filter::kind("token"), [Kind::TokenCreate, Kind::TokenRevoke]);
        assert!(Filter::kind("pack").is_empty() && Filter::kind("").is_empty());
    }

    #[test]
    fn an_event_has_to_fit_everything() {
        let at = |text: &str| Some(text.parse().unwrap());
        let now = "2026-11-30T12:00:00.000Z".parse().unwrap();
        let event = Event::new(Kind::Publish, Who::user("Ann"), now).of(&"@acme/tool".parse().unwrap());
        let wants = |filter: Filter| filter.wants(&event);
        assert!(wants(Filter::default()));
        assert!(wants(Filter { since: at("2026-11-30T12:00:00.000Z"), ..Filter::default() }));
        assert!(!wants(Filter { until: at("2026-11-30T12:00:00.000Z"), ..Filter::default() }));
        assert!(!wants(Filter { kinds: Filter::kind("token"), ..Filter::default() }));
        assert!(wants(Filter { package: Some("@acme/*".parse().unwrap()), ..Filter::default() }));
        assert!(!wants(Filter { package: Some("@other/*".parse().unwrap()), ..Filter::default() }));
        assert!(wants(Filter { who: Some("ANN".to_owned()), ..Filter::default() }));
        assert!(!wants(Filter { who: Some("bob".to_owned()), ..Filter::default() }));
        assert!(!wants(Filter { refused: true, ..Filter::default() }));
        let refused = event.clone().refused("not_an_owner");
        assert!(Filter { refused: true, ..Filter::default() }.wants(&refused));
        // An event of nobody and of no package.
        let server = Event::new(Kind::Settings, Who::server(), now);
        assert!(!Filter { who: Some("ann".to_owned()), ..Filter::default() }.wants(&server));
        assert!(!Filter { package: Some("**".parse().unwrap()), ..Filter::default() }.wants(&server));
    }
}
