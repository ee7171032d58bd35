//! May this caller do that? The only place that decides, and a pure one.
//!
//! In this order: a token's own limits; who may read may go on; administrators may do everything; a workflow may do what the
//! package trusts it with; the most specific rule that says something of the action; without one, the default: owners
//! change their packages. Whoever may not read a package may do nothing with it, and is not told that it is there.

use std::collections::BTreeMap;
use std::fmt;

use super::caller::{Caller, TokenScope};
use super::principal::Principal;
use super::workflow::WorkflowIdentity;
use crate::npm::{PackageName, Pattern};

/// What somebody wants to do with a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// See its document and fetch its tarballs.
    Read,
    /// Publish the first version of a name.
    Create,
    /// Add a version.
    Publish,
    /// Move a tag.
    Tag,
    /// Deprecate versions.
    Deprecate,
    /// Remove versions or the package.
    Unpublish,
    /// Change who owns it.
    Own,
    /// Change which workflows it trusts.
    Administer,
    /// Add or take one's own star.
    Star,
}

impl Action {
    /// All that a rule can speak of, in the order of the documentation. A star goes with reading.
    pub const IN_RULES: [Self; 8] = [
        Self::Read,
        Self::Create,
        Self::Publish,
        Self::Tag,
        Self::Deprecate,
        Self::Unpublish,
        Self::Own,
        Self::Administer,
    ];

    /// As a rule writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Publish => "publish",
            Self::Tag => "tag",
            Self::Deprecate => "deprecate",
            Self::Unpublish => "unpublish",
            Self::Own => "own",
            Self::Administer => "administer",
            Self::Star => "star",
        }
    }

    /// What stands for the action in a rule that does not name it.
    fn instead(self) -> Option<Self> {
        match self {
            Self::Read | Self::Publish | Self::Star => None,
            Self::Administer => Some(Self::Own),
            Self::Create | Self::Tag | Self::Deprecate | Self::Unpublish | Self::Own => Some(Self::Publish),
        }
    }
}

/// One `[[package]]` of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which packages.
    pub pattern: Pattern,
    /// Who may do what. An empty list means administrators only.
    pub principals: BTreeMap<Action, Vec<Principal>>,
    /// Whoever changes a package that is there must also be one of its owners.
    pub owners_only: bool,
    /// A person must confirm each change, by a second factor or in the browser.
    pub confirm: bool,
}

impl Rule {
    /// A rule that says nothing yet.
    pub fn new(pattern: Pattern) -> Self {
        Self { pattern, principals: BTreeMap::new(), owners_only: false, confirm: false }
    }

    /// Who may do something, where the rule says.
    pub fn principals(&self, action: Action) -> Option<&[Principal]> {
        let mut action = Some(action);
        while let Some(wanted) = action {
            if let Some(found) = self.principals.get(&wanted) {
                return Some(found);
            }
            action = wanted.instead();
        }
        None
    }
}

/// A rule that cannot mean what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule for `{pattern}`: {why}")]
pub struct RuleError {
    pattern: String,
    why: String,
}

/// The answer to a request for permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allowed,
    /// Signing in might help.
    SignInFirst,
    /// This caller may not know of the package.
    Hidden,
    /// This caller may not.
    Refused(Refusal),
}

/// Why somebody who may read may not do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Only owners may.
    NotAnOwner,
    /// No rule lets them.
    NotInRule,
    /// The token changes nothing.
    ReadOnlyToken,
    /// The token is for other packages.
    OtherPackages,
    /// The workflow is not trusted with this.
    NotTrusted,
}

/// A decision and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// The decision.
    pub decision: Decision,
    /// The rule that decided; `None` where the defaults did, or no rule was asked.
    pub rule: Option<&'a Pattern>,
    /// Why.
    pub reason: Reason<'a>,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// The caller is one of `access.admins`.
    Administrator(&'a Principal),
    /// The caller is one of those that are listed.
    Listed(&'a Principal),
    /// The caller is none of them.
    NotListed(&'a [Principal]),
    /// The caller is, or is not, an owner.
    Owner(bool),
    /// Nobody owns the package yet.
    NoOwners,
    /// The package trusts the workflow.
    Trust(bool),
    /// The token's own limits.
    Token(&'static str),
}

/// The rules, from the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPolicy {
    default_read: Vec<Principal>,
    owners_only: bool,
    admins: Vec<Principal>,
    /// The most specific first.
    rules: Vec<Rule>,
}

/// What a [`AccessPolicy`] is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four settings that have nothing to do with each other")]
pub struct AccessPolicySettings {
    /// Whether reading needs no account where no rule says otherwise.
    pub anonymous_read: bool,
    /// Whether only the owners of a package may change it where no rule says otherwise, as on the public registry.
    /// Otherwise every account may.
    pub owners_only: bool,
    /// Who may do everything.
    pub admins: Vec<Principal>,
    /// In any order.
    pub rules: Vec<Rule>,
    /// GitHub is set up, so that its groups can be known.
    pub has_github: bool,
    /// Roles in repositories can be asked for.
    pub has_service_token: bool,
    /// The names of the issuers of CI identities.
    pub issuers: Vec<String>,
}

/// Repositories that rules may name: each is asked about for every account, every few minutes.
const MAX_REPOSITORIES: usize = 20;

impl AccessPolicy {
    /// Puts the rules together and refuses those that can never match or that contradict each other or themselves.
    ///
    /// # Errors
    /// All mistakes found.
    pub fn new(settings: AccessPolicySettings) -> Result<Self, Vec<RuleError>> {
        let errors = mistakes(&settings);
        if !errors.is_empty() {
            return Err(errors);
        }
        let AccessPolicySettings { anonymous_read, owners_only, admins, mut rules, .. } = settings;
        rules.sort_by(|one, other| one.pattern.cmp(&other.pattern));
        let default_read = vec![if anonymous_read { Principal::Anyone } else { Principal::Account }];
        Ok(Self { default_read, owners_only, admins, rules })
    }

    /// Decides. `owners` are the package's, empty for a package that is not there yet (or that an older system left
    /// without any).
    pub fn authorize(&self, caller: &Caller, action: Action, name: &PackageName, owners: &[String]) -> Decision {
        self.explain(caller, action, name, owners).decision
    }

    /// Decides, and says why.
    pub fn explain<'a>(
        &'a self,
        caller: &Caller,
        action: Action,
        name: &PackageName,
        owners: &[String],
    ) -> Verdict<'a> {
        let read = self.read(caller, name);
        if read.decision != Decision::Allowed || action == Action::Read {
            return read;
        }
        if let Some(token) = caller.user().and_then(|user| user.token.as_deref())
            && let Some(verdict) = limited(token, name)
        {
            return verdict;
        }
        match caller {
            Caller::Anonymous => Verdict { decision: Decision::SignInFirst, ..read },
            Caller::User(_) if action == Action::Star => read,
            Caller::User(_) => self.change(caller, action, name, owners),
            Caller::Workflow(workflow) => {
                let grant = workflow.grant.as_ref().filter(|grant| grant.package == *name);
                let wanted = if action == Action::Create { Action::Publish } else { action };
                let is_trusted = grant.is_some_and(|grant| grant.actions.contains(&wanted) && grant.counts_for(owners));
                let decision = if is_trusted { Decision::Allowed } else { Decision::Refused(Refusal::NotTrusted) };
                Verdict { decision, rule: None, reason: Reason::Trust(is_trusted) }
            }
        }
    }

    fn read<'a>(&'a self, caller: &Caller, name: &PackageName) -> Verdict<'a> {
        let found = self.rules.iter().find_map(|rule| {
            let listed = rule.principals.get(&Action::Read).filter(|_| rule.pattern.matches(name))?;
            Some((Some(&rule.pattern), listed.as_slice()))
        });
        let (rule, listed) = found.unwrap_or((None, &self.default_read));
        // A token for other packages opens no more than no token does.
        let is_limited = caller.user().and_then(|user| user.token.as_ref()).is_some_and(|token| !covers(token, name));
        let effective = if is_limited { &Caller::Anonymous } else { caller };
        if let Some(principal) = listed.iter().find(|principal| principal.includes(effective, &[])) {
            return Verdict { decision: Decision::Allowed, rule, reason: Reason::Listed(principal) };
        }
        if is_limited {
            return Verdict { decision: Decision::Hidden, rule, reason: Reason::Token("it is for other packages") };
        }
        if let Some(principal) = self.as_administrator(caller) {
            return Verdict { decision: Decision::Allowed, rule: None, reason: Reason::Administrator(principal) };
        }
        if let Caller::Workflow(workflow) = caller
            && workflow.grant.as_ref().is_some_and(|grant| grant.package == *name)
        {
            return Verdict { decision: Decision::Allowed, rule: None, reason: Reason::Trust(true) };
        }
        let decision = if caller.is_known() { Decision::Hidden } else { Decision::SignInFirst };
        Verdict { decision, rule, reason: Reason::NotListed(listed) }
    }

    fn change<'a>(&'a self, caller: &Caller, action: Action, name: &PackageName, owners: &[String]) -> Verdict<'a> {
        if let Some(principal) = self.as_administrator(caller) {
            return Verdict { decision: Decision::Allowed, rule: None, reason: Reason::Administrator(principal) };
        }
        let is_owner = caller.user().is_some_and(|user| user.is_in(owners));
        let found = self
            .rules
            .iter()
            .filter(|rule| rule.pattern.matches(name))
            .find_map(|rule| Some((rule, rule.principals(action)?)));
        let Some((rule, listed)) = found else {
            let (decision, reason) = match (self.owners_only, owners.is_empty()) {
                (true, false) if !is_owner => (Decision::Refused(Refusal::NotAnOwner), Reason::Owner(false)),
                (true, false) => (Decision::Allowed, Reason::Owner(true)),
                (_, true) => (Decision::Allowed, Reason::NoOwners),
                (false, false) => (Decision::Allowed, Reason::Listed(&Principal::Account)),
            };
            return Verdict { decision, rule: None, reason };
        };
        let pattern = Some(&rule.pattern);
        let Some(principal) = listed.iter().find(|principal| principal.includes(caller, owners)) else {
            let decision = Decision::Refused(Refusal::NotInRule);
            return Verdict { decision, rule: pattern, reason: Reason::NotListed(listed) };
        };
        if rule.owners_only && !owners.is_empty() && !is_owner {
            let decision = Decision::Refused(Refusal::NotAnOwner);
            return Verdict { decision, rule: pattern, reason: Reason::Owner(false) };
        }
        Verdict { decision: Decision::Allowed, rule: pattern, reason: Reason::Listed(principal) }
    }

    fn as_administrator(&self, caller: &Caller) -> Option<&Principal> {
        let user = caller.user()?;
        // A token with limits is made to be weaker than its owner.
        if user.token.as_ref().is_some_and(|token| token.packages.is_some()) {
            return None;
        }
        self.admins.iter().find(|principal| principal.includes(caller, &[]))
    }

    /// Whether the caller is one of `access.admins`.
    pub fn is_administrator(&self, caller: &Caller) -> bool {
        self.as_administrator(caller).is_some()
    }

    /// Whether anybody may read a package, so that caches between here and there may keep it.
    pub fn is_public(&self, name: &PackageName) -> bool {
        self.read(&Caller::Anonymous, name).decision == Decision::Allowed
    }

    /// For what concerns no single package: whether the caller may use the registry at all. Where rules differ by
    /// package, each package is asked about on its own.
    pub fn may_use(&self, caller: &Caller) -> bool {
        caller.is_known() || self.default_read.contains(&Principal::Anyone)
    }

    /// Whether a caller may know of the packages that a rule speaks of.
    pub fn may_read_rule(&self, caller: &Caller, pattern: &Pattern) -> bool {
        let mut reads = self.rules.iter().filter(|rule| rule.pattern.covers(pattern));
        let listed = reads.find_map(|rule| rule.principals.get(&Action::Read)).unwrap_or(&self.default_read);
        self.is_administrator(caller) || listed.iter().any(|principal| principal.includes(caller, &[]))
    }

    /// Whether any rule lets a CI job read.
    pub fn names_workflow(&self, job: &WorkflowIdentity) -> bool {
        self.rules
            .iter()
            .filter_map(|rule| rule.principals.get(&Action::Read))
            .flatten()
            .any(|principal| matches!(principal, Principal::Workflow(pattern) if pattern.matches(job)))
    }

    /// Whether a person must confirm changes of a package.
    pub fn must_confirm(&self, name: &PackageName) -> bool {
        self.rules.iter().find(|rule| rule.pattern.matches(name)).is_some_and(|rule| rule.confirm)
    }

    /// The rules, the most specific first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Who may do something with a package, for listings: the principals of the rule that decides, or the owners.
    pub fn listed(&self, action: Action, name: &PackageName) -> Vec<&Principal> {
        let mut rules = self.rules.iter().filter(|rule| rule.pattern.matches(name));
        match rules.find_map(|rule| rule.principals(action)) {
            Some(listed) => listed.iter().collect(),
            None if action == Action::Read => self.default_read.iter().collect(),
            None => Vec::new(),
        }
    }

    fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.admins.iter().chain(self.rules.iter().flat_map(|rule| rule.principals.values().flatten()))
    }

    /// Whether any rule asks for teams: they need a call of their own.
    pub fn needs_teams(&self) -> bool {
        self.principals().any(|principal| matches!(principal, Principal::Team(_)))
    }

    /// Whether any rule asks for organisations.
    pub fn needs_organizations(&self) -> bool {
        self.principals().any(|principal| matches!(principal, Principal::Organization(_)))
    }

    /// The repositories whose roles rules ask for, `owner/name` in lower case.
    pub fn repositories(&self) -> Vec<String> {
        repositories(self.principals())
    }
}

fn repositories<'a>(principals: impl Iterator<Item = &'a Principal>) -> Vec<String> {
    let mut found: Vec<String> = principals
        .filter_map(|principal| match principal {
            Principal::Repository { repository, .. } => Some(repository.clone()),
            _ => None,
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Whether a token is good for a package.
fn covers(token: &TokenScope, name: &PackageName) -> bool {
    token.packages.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
}

fn limited<'a>(token: &TokenScope, name: &PackageName) -> Option<Verdict<'a>> {
    let refused =
        |refusal, why| Verdict { decision: Decision::Refused(refusal), rule: None, reason: Reason::Token(why) };
    if token.read_only {
        return Some(refused(Refusal::ReadOnlyToken, "it may only read"));
    }
    (!covers(token, name)).then(|| refused(Refusal::OtherPackages, "it is for other packages"))
}

/// Everything that can be known to be wrong without knowing who will call.
fn mistakes(settings: &AccessPolicySettings) -> Vec<RuleError> {
    let mut errors = Vec::new();
    let mut wrong = |pattern: String, why: String| errors.push(RuleError { pattern, why });
    for principal in &settings.admins {
        let is_open = matches!(principal, Principal::Anyone | Principal::Account);
        if is_open || matches!(principal, Principal::Owners | Principal::Trusted | Principal::Workflow(_)) {
            wrong("access.admins".to_owned(), format!("`{principal}` cannot administer: name accounts or teams"));
        }
        if let Some(why) = unknowable(principal, settings) {
            wrong("access.admins".to_owned(), why);
        }
    }
    for (index, rule) in settings.rules.iter().enumerate() {
        let pattern = rule.pattern.to_string();
        if settings.rules[..index].iter().any(|other| other.pattern == rule.pattern) {
            wrong(
                pattern.clone(),
                "it stands twice, and which one decides would be a matter of luck: put them together".to_owned(),
            );
        }
        if rule.principals.is_empty() && !rule.confirm {
            wrong(pattern.clone(), "it says nothing: name who may `read` or `publish`".to_owned());
        }
        if rule.owners_only && rule.principals.keys().all(|action| *action == Action::Read) {
            wrong(pattern.clone(), "`owners_only` goes with a list of who may `publish`".to_owned());
        }
        for (action, listed) in &rule.principals {
            for why in listed_mistakes(settings, rule, *action, listed) {
                wrong(pattern.clone(), format!("`{}`: {why}", action.as_str()));
            }
        }
    }
    let all = settings.admins.iter().chain(settings.rules.iter().flat_map(|rule| rule.principals.values().flatten()));
    let repositories = repositories(all);
    if repositories.len() > MAX_REPOSITORIES {
        let why = format!("the rules name {} repositories; {MAX_REPOSITORIES} can be asked about", repositories.len());
        wrong("github:repo/…".to_owned(), why);
    }
    errors
}

fn listed_mistakes(settings: &AccessPolicySettings, rule: &Rule, action: Action, listed: &[Principal]) -> Vec<String> {
    let mut found = Vec::new();
    let is_read = action == Action::Read;
    for (index, principal) in listed.iter().enumerate() {
        if listed[..index].contains(principal) {
            found.push(format!("`{principal}` stands twice"));
        }
        if let Some(why) = unknowable(principal, settings) {
            found.push(why);
        }
        let is_alone = listed.len() == 1;
        match principal {
            Principal::Anyone if !is_read => {
                found
                    .push("`anyone` can never change a package, since that needs an account: say `account`".to_owned());
            }
            Principal::Anyone if !is_alone => {
                found.push("beside `anyone` nobody else has to be named".to_owned());
            }
            Principal::Owners | Principal::Trusted if is_read => {
                found.push(format!("`{principal}` is decided by the package, and reading is decided before that: name accounts, groups or workflows"));
            }
            Principal::Workflow(_) if !is_read => {
                found.push(format!("`{principal}` can only be let read here; which workflows may publish is said by each package (`npm trust`)"));
            }
            _ => {}
        }
        // Who is never among the readers can never do more.
        if let Some(readers) = rule.principals.get(&Action::Read)
            && !is_read
            && !readers.is_empty()
            && !readers.iter().any(|reader| reader.may_overlap(principal))
        {
            found.push(format!("`{principal}` may not `read`, so it can never match: add it there"));
        }
    }
    found
}

/// Why it can never be known whether a principal calls.
fn unknowable(principal: &Principal, settings: &AccessPolicySettings) -> Option<String> {
    match principal {
        principal if principal.needs_github() && !settings.has_github => {
            Some(format!("`{principal}` can never match, since GitHub is not set up: set `github.client_id`"))
        }
        Principal::Repository { .. } if !settings.has_service_token => {
            Some(format!("`{principal}` can never match without a token that may ask for roles: set `github.token`"))
        }
        Principal::Workflow(pattern) if !settings.issuers.contains(&pattern.issuer) => Some(format!(
            "`{principal}` can never match, since there is no issuer `{}`: set `issuers.{}.url`",
            pattern.issuer, pattern.issuer
        )),
        _ => None,
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Administrator(principal) => write!(f, "`{principal}` is one of `access.admins`"),
            Self::Listed(principal) => write!(f, "`{principal}` is listed"),
            Self::NotListed([]) => f.write_str("the list is empty: administrators only"),
            Self::NotListed(listed) => {
                let names: Vec<String> = listed.iter().map(|principal| format!("`{principal}`")).collect();
                write!(f, "none of {} is the caller", names.join(", "))
            }
            Self::Owner(true) => f.write_str("the caller owns the package"),
            Self::Owner(false) => f.write_str("the caller does not own the package"),
            Self::NoOwners => f.write_str("nobody owns the package yet"),
            Self::Trust(true) => f.write_str("the package trusts the workflow"),
            Self::Trust(false) => f.write_str("the package does not trust the workflow with this"),
            Self::Token(why) => write!(f, "the token's limits: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::caller::{Groups, Source, User};
    use super::*;

    fn rule(pattern: &str, lists: &[(Action, &[&str])]) -> Rule {
        let mut rule = Rule::new(pattern.parse().unwrap());
        for (action, listed) in lists {
            rule.principals.insert(*action, listed.iter().map(|text| text.parse().unwrap()).collect());
        }
        rule
    }

    fn settings(rules: Vec<Rule>) -> AccessPolicySettings {
        AccessPolicySettings {
            anonymous_read: true,
            owners_only: true,
            rules,
            has_github: true,
            has_service_token: true,
            issuers: vec!["github".to_owned()],
            ..AccessPolicySettings::default()
        }
    }

    fn local(name: &str) -> Caller {
        Caller::User(User::local(name, ""))
    }

    fn member(name: &str, organizations: &[&str], teams: &[&str]) -> Caller {
        let groups = Groups {
            organizations: organizations.iter().map(ToString::to_string).collect(),
            teams: teams.iter().map(ToString::to_string).collect(),
            roles: BTreeMap::from([("acme/tool".to_owned(), super::super::principal::Role::Write)]),
        };
        Caller::User(User { source: Source::GitHub, groups: Arc::new(groups), ..User::local(name, "") })
    }

    fn limited_to(caller: &Caller, token: TokenScope) -> Caller {
        let mut user = caller.user().unwrap().clone();
        user.token = Some(Arc::new(token));
        Caller::User(user)
    }

    fn name(text: &str) -> PackageName {
        text.parse().unwrap()
    }

    #[test]
    fn without_rules_owners_change_their_packages() {
        use Action::{Own, Publish, Read, Star, Unpublish};
        let (ann, tool) = (local("ann"), name("tool"));
        let (owners, others) = (["ann".to_owned()], ["bob".to_owned()]);
        let open = AccessPolicy::new(settings(Vec::new())).unwrap();
        let closed = AccessPolicy::new(AccessPolicySettings {
            anonymous_read: false,
            owners_only: false,
            ..settings(Vec::new())
        })
        .unwrap();
        assert_eq!(open.authorize(&Caller::Anonymous, Read, &tool, &owners), Decision::Allowed);
        assert_eq!(closed.authorize(&Caller::Anonymous, Read, &tool, &owners), Decision::SignInFirst);
        for action in [Publish, Unpublish, Own, Star] {
            assert_eq!(open.authorize(&Caller::Anonymous, action, &tool, &[]), Decision::SignInFirst);
            assert_eq!(open.authorize(&ann, action, &tool, &owners), Decision::Allowed);
            assert_eq!(open.authorize(&ann, action, &tool, &[]), Decision::Allowed);
            assert_eq!(closed.authorize(&ann, action, &tool, &others), Decision::Allowed);
        }
        for action in [Publish, Unpublish, Own] {
            assert_eq!(open.authorize(&ann, action, &tool, &others), Decision::Refused(Refusal::NotAnOwner));
        }
        assert_eq!(open.authorize(&ann, Read, &tool, &others), Decision::Allowed);
        assert_eq!(open.authorize(&local("ANN"), Publish, &tool, &owners), Decision::Allowed);
    }

    #[test]
    fn the_most_specific_rule_decides_whatever_the_order() {
        let rules = vec![
            rule("@acme/*", &[(Action::Read, &["github:org/acme"]), (Action::Publish, &["github:team/acme/platform"])]),
            rule("@acme/public", &[(Action::Read, &["anyone"])]),
            rule("**", &[(Action::Publish, &["user:root"])]),
            rule("@acme/secret", &[(Action::Read, &["github:user/ann"]), (Action::Publish, &["github:user/ann"])]),
        ];
        let ann = member("ann", &["acme"], &[]);
        let bob = member("bob", &["acme"], &["acme/platform"]);
        let eve = member("eve", &["other"], &["other/platform"]);
        for order in 0..rules.len() {
            let mut rules = rules.clone();
            rules.rotate_left(order);
            let policy = AccessPolicy::new(settings(rules)).unwrap();
            let decide = |caller: &Caller, action, package: &str| {
                policy.authorize(caller, action, &name(package), &["somebody".to_owned()])
            };
            assert_eq!(decide(&Caller::Anonymous, Action::Read, "@acme/tool"), Decision::SignInFirst);
            assert_eq!(decide(&eve, Action::Read, "@acme/tool"), Decision::Hidden);
            assert_eq!(decide(&eve, Action::Publish, "@acme/tool"), Decision::Hidden);
            assert_eq!(decide(&ann, Action::Read, "@acme/tool"), Decision::Allowed);
            assert_eq!(decide(&ann, Action::Publish, "@acme/tool"), Decision::Refused(Refusal::NotInRule));
            assert_eq!(decide(&bob, Action::Publish, "@acme/tool"), Decision::Allowed);
            // What a rule does not name follows `publish`.
            for action in [Action::Create, Action::Tag, Action::Unpublish, Action::Own, Action::Administer] {
                assert_eq!(decide(&bob, action, "@acme/tool"), Decision::Allowed);
            }
            // A rule that does not speak of an action leaves it to the next.
            assert_eq!(decide(&Caller::Anonymous, Action::Read, "@acme/public"), Decision::Allowed);
            assert_eq!(decide(&bob, Action::Publish, "@acme/public"), Decision::Allowed);
            assert_eq!(decide(&bob, Action::Read, "@acme/secret"), Decision::Hidden);
            assert_eq!(decide(&ann, Action::Publish, "@acme/secret"), Decision::Allowed);
            assert_eq!(decide(&bob, Action::Publish, "tool"), Decision::Refused(Refusal::NotInRule));
            assert_eq!(decide(&local("root"), Action::Publish, "tool"), Decision::Allowed);
            assert_eq!(
                policy.explain(&bob, Action::Publish, &name("@acme/x"), &[]).rule.unwrap().to_string(),
                "@acme/*"
            );
        }
    }

    #[test]
    fn owners_may_be_asked_for_as_well() {
        let mut strict = rule("@acme/*", &[(Action::Publish, &["account"])]);
        strict.owners_only = true;
        let policy =
            AccessPolicy::new(settings(vec![strict, rule("mine", &[(Action::Publish, &["owners"])])])).unwrap();
        let owners = ["ann".to_owned()];
        assert_eq!(policy.authorize(&local("ann"), Action::Publish, &name("@acme/x"), &owners), Decision::Allowed);
        let refused = Decision::Refused(Refusal::NotAnOwner);
        assert_eq!(policy.authorize(&local("bob"), Action::Publish, &name("@acme/x"), &owners), refused);
        assert_eq!(policy.authorize(&local("bob"), Action::Create, &name("@acme/x"), &[]), Decision::Allowed);
        let refused = Decision::Refused(Refusal::NotInRule);
        assert_eq!(policy.authorize(&local("bob"), Action::Publish, &name("mine"), &owners), refused);
        assert_eq!(policy.authorize(&local("ann"), Action::Publish, &name("mine"), &owners), Decision::Allowed);
    }

    #[test]
    fn administrators_may_do_everything_and_their_limited_tokens_may_not() {
        let admins = vec!["github:user/root".parse().unwrap()];
        let rules = vec![rule("**", &[(Action::Read, &["github:org/acme"]), (Action::Publish, &[])])];
        let policy = AccessPolicy::new(AccessPolicySettings { admins, ..settings(rules) }).unwrap();
        let root = member("Root", &[], &[]);
        let tool = name("tool");
        assert_eq!(policy.authorize(&root, Action::Unpublish, &tool, &["x".to_owned()]), Decision::Allowed);
        assert_eq!(policy.authorize(&local("root"), Action::Read, &tool, &[]), Decision::Hidden);
        let read_only = limited_to(&root, TokenScope { read_only: true, ..TokenScope::default() });
        assert_eq!(policy.authorize(&read_only, Action::Read, &tool, &[]), Decision::Allowed);
        let refused = Decision::Refused(Refusal::ReadOnlyToken);
        assert_eq!(policy.authorize(&read_only, Action::Publish, &tool, &[]), refused);
        let packages = Some(vec!["@acme/*".parse().unwrap()]);
        let other = limited_to(&root, TokenScope { packages, ..TokenScope::default() });
        assert_eq!(policy.authorize(&other, Action::Read, &tool, &[]), Decision::Hidden);
        assert_eq!(policy.authorize(&other, Action::Read, &name("@acme/x"), &[]), Decision::Hidden);
        assert!(!policy.is_administrator(&other));
    }

    #[test]
    fn a_token_for_some_packages_still_reads_what_anybody_may() {
        let policy = AccessPolicy::new(settings(Vec::new())).unwrap();
        let packages = Some(vec!["@acme/*".parse().unwrap()]);
        let ann = limited_to(&local("ann"), TokenScope { packages, ..TokenScope::default() });
        assert_eq!(policy.authorize(&ann, Action::Read, &name("left"), &[]), Decision::Allowed);
        let refused = Decision::Refused(Refusal::OtherPackages);
        assert_eq!(policy.authorize(&ann, Action::Publish, &name("left"), &[]), refused);
        assert_eq!(policy.authorize(&ann, Action::Create, &name("@acme/x"), &[]), Decision::Allowed);
    }

    #[test]
    fn roles_in_repositories_count_upwards() {
        let rules = vec![rule("tool", &[(Action::Publish, &["github:repo/acme/tool:triage"])])];
        let policy = AccessPolicy::new(settings(rules)).unwrap();
        let writer = member("ann", &[], &[]);
        assert_eq!(policy.authorize(&writer, Action::Publish, &name("tool"), &[]), Decision::Allowed);
        let rules = vec![rule("tool", &[(Action::Publish, &["github:repo/acme/tool:maintain"])])];
        let policy = AccessPolicy::new(settings(rules)).unwrap();
        assert_ne!(policy.authorize(&writer, Action::Publish, &name("tool"), &[]), Decision::Allowed);
        assert_eq!(policy.repositories(), ["acme/tool"]);
    }

    #[test]
    fn rules_that_cannot_mean_what_they_say_are_refused() {
        let owners_only = Rule { owners_only: true, ..rule("d", &[(Action::Read, &["anyone"])]) };
        for (rules, part) in [
            (vec![rule("a", &[(Action::Read, &["anyone"])]), rule("a", &[(Action::Publish, &[])])], "stands twice"),
            (vec![rule("a", &[])], "says nothing"),
            (vec![rule("a", &[(Action::Publish, &["anyone"])])], "`anyone` can never change"),
            (vec![rule("a", &[(Action::Read, &["anyone", "user:ann"])])], "nobody else"),
            (vec![rule("a", &[(Action::Read, &["user:ann", "user:ann"])])], "stands twice"),
            (vec![rule("a", &[(Action::Read, &["owners"])])], "decided by the package"),
            (vec![rule("a", &[(Action::Publish, &["workflow:github/a/b"])])], "`npm trust`"),
            (vec![rule("a", &[(Action::Read, &["workflow:circle/a/b"])])], "there is no issuer `circle`"),
            (
                vec![rule("a", &[(Action::Read, &["github:org/acme"]), (Action::Publish, &["user:bot"])])],
                "`user:bot` may not `read`",
            ),
            (
                vec![rule("a", &[(Action::Read, &["workflow:github/a/b"]), (Action::Publish, &["account"])])],
                "`account` may not `read`",
            ),
            (vec![owners_only], "`owners_only` goes with"),
        ] {
            let errors = AccessPolicy::new(settings(rules.clone())).unwrap_err();
            let text = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(text.contains(part), "{rules:?}: {text}");
        }
        let without = |change: &dyn Fn(&mut AccessPolicySettings)| {
            let mut settings = settings(vec![rule("a", &[(Action::Read, &["github:repo/a/b:read"])])]);
            change(&mut settings);
            AccessPolicy::new(settings).unwrap_err()[0].to_string()
        };
        assert!(without(&|settings| settings.has_github = false).contains("GitHub is not set up"));
        assert!(without(&|settings| settings.has_service_token = false).contains("`github.token`"));
        let admins = vec![Principal::Account];
        assert!(AccessPolicy::new(AccessPolicySettings { admins, ..settings(Vec::new()) }).is_err());
    }
}
