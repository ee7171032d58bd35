//! The pages and what is on them. Every `base` is this server's URL as the browser knows it, without a trailing slash.

use askama::Template;

/// Who wants to be let in, as far as is known: what a person compares with what they have just started. All of it was
/// said by the program that asks, but for the address.
#[derive(Debug, Clone)]
pub(in crate::http) struct Asking {
    /// A sentence's worth: `npm on build-7 wants to sign in`.
    pub(in crate::http) what: String,
    /// The machine's name.
    pub(in crate::http) machine: Option<String>,
    /// Where the question came from.
    pub(in crate::http) address: String,
    /// The program and its version.
    pub(in crate::http) client: String,
    /// When it was asked, for a person to read.
    pub(in crate::http) started: String,
}

/// Name and password, or another server that vouches. Posts `user`, `password` and `code` to `/-/login/{id}`.
#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
pub(in crate::http) struct SignIn<'a> {
    pub(in crate::http) base: &'a str,
    /// Of the sign-in under way.
    pub(in crate::http) id: &'a str,
    pub(in crate::http) asks: &'a Asking,
    /// Where the way over GitHub begins, when there is one.
    pub(in crate::http) github_url: Option<String>,
    /// Whether there is a form for name and password.
    pub(in crate::http) has_local_accounts: bool,
    /// Whether the form has a field for a one-time code.
    pub(in crate::http) wants_code: bool,
    /// What the field for the name has in it at first.
    pub(in crate::http) user: &'a str,
    /// What was wrong with the last try and what to do, in a sentence.
    pub(in crate::http) problem: Option<String>,
    /// Whether an unknown name makes an account.
    pub(in crate::http) registration_open: bool,
}

/// The question whether to go on, for somebody who is signed in. Posts `csrf` and `decision`, which is `confirm` or
/// `deny`, to `/-/login/{id}/confirm`.
#[derive(Debug, Template)]
#[template(path = "confirm.html")]
pub(in crate::http) struct Confirm<'a> {
    pub(in crate::http) base: &'a str,
    /// Of the sign-in under way.
    pub(in crate::http) id: &'a str,
    pub(in crate::http) asks: &'a Asking,
    /// The account.
    pub(in crate::http) user: &'a str,
    /// What shows that the answer comes from this page.
    pub(in crate::http) csrf: &'a str,
    /// What would be done, without a full stop: `Sign in npm on build-7`, `Publish @acme/tool`.
    pub(in crate::http) action: String,
}

/// The end.
#[derive(Debug, Template)]
#[template(path = "done.html")]
pub(in crate::http) struct Done<'a> {
    pub(in crate::http) base: &'a str,
    pub(in crate::http) title: &'a str,
    pub(in crate::http) sentence: &'a str,
    /// A one-time code, for programs that ask for one.
    pub(in crate::http) code: Option<String>,
}

/// Making the account that somebody was invited to. Posts `name`, `password`, `again` and `email` to
/// `/-/invite/{code}`.
#[derive(Debug, Template)]
#[template(path = "invitation.html")]
pub(in crate::http) struct Invitation<'a> {
    pub(in crate::http) base: &'a str,
    /// Of the invitation.
    pub(in crate::http) code: &'a str,
    /// What the field for the name has in it at first.
    pub(in crate::http) name: &'a str,
    /// What was wrong with the last try and what to do, in a sentence.
    pub(in crate::http) problem: Option<String>,
}

/// It cannot go on. The status is given with it to [`super::page`].
#[derive(Debug, Template)]
#[template(path = "problem.html")]
pub(in crate::http) struct Problem<'a> {
    pub(in crate::http) base: &'a str,
    pub(in crate::http) title: &'a str,
    /// What is wrong and what to do.
    pub(in crate::http) sentence: &'a str,
    /// Where the log has more.
    pub(in crate::http) request_id: &'a str,
}

impl Confirm<'_> {
    /// One or two letters for the account: pictures would have to be loaded from elsewhere.
    fn initials(&self) -> String {
        let words = self.user.split(|c: char| !c.is_alphanumeric()).filter_map(|word| word.chars().next());
        let letters: String = words.take(2).flat_map(char::to_uppercase).collect();
        if letters.is_empty() { "?".to_owned() } else { letters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://npm.example/npm";
    const HOSTILE: &str = "\"'><script>alert(1)</script>&amp;";

    fn asks(text: &str) -> Asking {
        Asking {
            what: format!("npm on {text} wants to sign in"),
            machine: Some(text.to_owned()),
            address: "203.0.113.20".to_owned(),
            client: "npm 12.3.1, node 26.1.0, linux x64".to_owned(),
            started: "24 November 2026, 09:41 UTC".to_owned(),
        }
    }

    fn sign_in<'a>(asks: &'a Asking, text: &'a str) -> SignIn<'a> {
        SignIn {
            base: BASE,
            id: text,
            asks,
            github_url: Some(format!("{BASE}/-/login/x/github?{text}")),
            has_local_accounts: true,
            wants_code: true,
            user: text,
            problem: Some(format!("The name {text} or the password is wrong.")),
            registration_open: true,
        }
    }

    /// Every page with a text in every place.
    fn pages(text: &str) -> Vec<(&'static str, String)> {
        let asks = asks(text);
        let quiet = SignIn { problem: None, wants_code: false, github_url: None, ..sign_in(&asks, text) };
        let github_only = SignIn { has_local_accounts: false, problem: None, ..sign_in(&asks, text) };
        let nothing = SignIn { has_local_accounts: false, github_url: None, ..sign_in(&asks, text) };
        let action = format!("Sign in npm on {text}");
        let confirm = Confirm { base: BASE, id: text, asks: &asks, user: text, csrf: text, action };
        let invitation = |problem| Invitation { base: BASE, code: text, name: text, problem };
        let again = Some("The two passwords are not the same: type both again.".to_owned());
        let id = "4f1c2d0a9b8e7f6a5c4d3e2f1a0b9c8d";
        let sentence = "npm goes on by itself: you can close this page and go back to your terminal.";
        let expired = "This sign-in is over, or was never begun: start it again in your terminal.";
        vec![
            ("sign-in", sign_in(&asks, text).render().unwrap()),
            ("sign-in-quiet", quiet.render().unwrap()),
            ("sign-in-github", github_only.render().unwrap()),
            ("sign-in-none", nothing.render().unwrap()),
            ("confirm", confirm.render().unwrap()),
            ("done", Done { base: BASE, title: "You are signed in", sentence, code: None }.render().unwrap()),
            (
                "done-code",
                Done { base: BASE, title: "Confirmed", sentence, code: Some(text.to_owned()) }.render().unwrap(),
            ),
            ("invitation", invitation(None).render().unwrap()),
            ("invitation-again", invitation(again).render().unwrap()),
            ("problem", Problem { base: BASE, title: text, sentence: expired, request_id: id }.render().unwrap()),
        ]
    }

    #[test]
    fn whatever_stands_in_a_page_is_text() {
        for (name, html) in pages(HOSTILE) {
            assert!(!html.contains("<script") && !html.contains("alert(1)</"), "{name}: {html}");
            assert!(!html.contains("\"'>"), "{name}: {html}");
        }
        let asks = asks("build-7");
        let html = Confirm { base: BASE, id: "a/b?c", asks: &asks, user: "x", csrf: "c", action: String::new() };
        assert!(html.render().unwrap().contains("action=\"https://npm.example/npm/-/login/a%2Fb%3Fc/confirm\""));
    }

    #[test]
    fn every_page_is_whole_and_loads_nothing_from_elsewhere() {
        for (name, html) in pages("build-7") {
            assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"), "{name}");
            for (element, times) in
                [("<h1", 1), ("<title", 1), ("<main", 1), ("<script", 0), ("<img", 0), (" style=", 0)]
            {
                assert_eq!(html.matches(element).count(), times, "{name}: {element}");
            }
            let hrefs = html.match_indices("href=\"").map(|(at, found)| &html[at + found.len()..]);
            for href in hrefs {
                assert!(href.starts_with(BASE) || href.starts_with("data:image/svg+xml,"), "{name}: {href:.60}");
            }
            for label in html.split("<label for=\"").skip(1) {
                let id = label.split('"').next().unwrap();
                assert!(html.contains(&format!("id=\"{id}\"")), "{name}: {id}");
            }
            let fields = html.matches("<input ").count() - html.matches("type=\"hidden\"").count();
            assert_eq!(html.matches("<label ").count(), fields, "{name}: every field has its label");
        }
    }

    #[test]
    fn a_page_asks_for_what_is_wanted_only() {
        let asks = asks("build-7");
        let html = SignIn { wants_code: false, github_url: None, ..sign_in(&asks, "ann") }.render().unwrap();
        assert!(html.contains("name=\"password\"") && !html.contains("name=\"code\"") && !html.contains("GitHub"));
        let html = SignIn { has_local_accounts: false, ..sign_in(&asks, "ann") }.render().unwrap();
        assert!(!html.contains("<form") && html.contains("Sign in with GitHub"));
        assert!(html.contains("Go on only if you started this yourself just now."));
    }

    #[test]
    fn initials_are_one_or_two_letters() {
        let asks = asks("build-7");
        for (user, expected) in [("ann", "A"), ("ann.lee-x", "AL"), ("@", "?"), ("", "?"), ("ördög", "Ö"), ("ß", "SS")]
        {
            let page = Confirm { base: BASE, id: "", asks: &asks, user, csrf: "", action: String::new() };
            assert_eq!(page.initials(), expected, "{user}");
        }
    }

    /// `cargo test --lib web::pages -- --ignored`, then open them in a browser.
    #[test]
    #[ignore = "writes the pages into the folder for temporary files, to be looked at"]
    fn write_them_to_be_looked_at() {
        let folder = std::env::temp_dir().join("holdfast-pages");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("holdfast.css"), super::super::STYLESHEET).unwrap();
        let stylesheet = format!("{BASE}{}", super::super::STYLESHEET_PATH);
        for (name, html) in pages("build-7") {
            std::fs::write(folder.join(format!("{name}.html")), html.replace(&stylesheet, "holdfast.css")).unwrap();
        }
    }
}
