//! Passwords that a URL may hold: in no message, and not in what a command inherits.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};

use url::Url;

/// What stands where one was.
const HIDDEN: &str = "***";
/// How a URL names one behind its question mark; the second one a Redis socket's, the third the sentinels' own.
const PARAMETERS: [&str; 3] = ["password=", "pass=", "sentinel_password="];

/// A message without the passwords of the URLs in it: what is refused is repeated, and somebody's log keeps it.
pub(crate) fn hidden(message: &str) -> Cow<'_, str> {
    if !message.contains("://") && !PARAMETERS.iter().any(|name| message.contains(name)) {
        return Cow::Borrowed(message);
    }
    let words = message.split_inclusive(char::is_whitespace);
    Cow::Owned(words.map(|word| hidden_parameter(&hidden_authority(word))).collect())
}

/// `scheme://user:password@host`. Of several `@`, which a URL should escape, the last one counts.
fn hidden_authority(word: &str) -> String {
    let found = word.find("://").and_then(|at| {
        let (before, after) = word.split_at(at + 3);
        let (user, host) = after.rsplit_once('@')?;
        let (user, _password) = user.split_once(':')?;
        Some(format!("{before}{user}:{HIDDEN}@{host}"))
    });
    found.unwrap_or_else(|| word.to_owned())
}

fn hidden_parameter(word: &str) -> String {
    let found = PARAMETERS.iter().find_map(|name| Some(word.find(name)? + name.len()));
    let Some(at) = found else { return word.to_owned() };
    let (before, after) = word.split_at(at);
    let end = after.find(|c: char| matches!(c, '&' | '\'' | '"') || c.is_whitespace());
    format!("{before}{HIDDEN}{}", after.get(end.unwrap_or(after.len())..).unwrap_or_default())
}

/// The URL of a store for others to have, where it holds a password and theirs must be another one.
///
/// Nothing else of it changes: a call of this program within a command means the same store, and asks for a
/// password in the other ways, or fails.
pub(crate) fn without_password(url: &OsStr) -> Option<OsString> {
    let text = url.to_str()?;
    let hidden = hidden(text);
    if hidden == text {
        return None;
    }
    let Ok(mut parsed) = Url::parse(text) else { return Some(hidden.into_owned().into()) };
    // There is one, so it has a host.
    let _ = parsed.set_password(None);
    let query = parsed.query().map(|query| {
        let is_one = |part: &&str| PARAMETERS.iter().any(|name| part.starts_with(name));
        query.split('&').filter(|part| !is_one(part)).collect::<Vec<_>>().join("&")
    });
    parsed.set_query(query.as_deref().filter(|query| !query.is_empty()));
    Some(String::from(parsed).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_all_but_the_passwords() {
        for (message, said) in [
            ("nothing to hide: a@b", "nothing to hide: a@b"),
            ("postgres://h/d and postgres://u@h/d", "postgres://h/d and postgres://u@h/d"),
            ("argument 'postgres://u:pw@h/d' found", "argument 'postgres://u:***@h/d' found"),
            ("x://u:p@w@h:1/d, x://u:p'w@h", "x://u:***@h:1/d, x://u:***@h"),
            (
                "x:///d?password=pw&user=u host=h password=pw",
                "x:///d?password=***&user=u host=h password=***",
            ),
            (
                "x://h:1/m?sentinel_user=u&sentinel_password=pw",
                "x://h:1/m?sentinel_user=u&sentinel_password=***",
            ),
            ("x://u:pw@h/d?password=pw' found", "x://u:***@h/d?password=***' found"),
        ] {
            assert_eq!(hidden(message), said);
        }
    }

    #[test]
    fn a_url_is_handed_on_without_its_password_alone() {
        for (url, left) in [
            ("postgres://u@h/d?x=y", None),
            ("sqlite:/var/lib/once.db", None),
            ("postgres://u:pw@h:1/d?sslmode=require", Some("postgres://u@h:1/d?sslmode=require")),
            ("postgres://u:pw@h/d?password=pw", Some("postgres://u@h/d")),
            ("postgres:///d?host=/run/pg&password=pw&user=u", Some("postgres:///d?host=/run/pg&user=u")),
            ("redis+sentinel://h:1/m?sentinel_password=pw", Some("redis+sentinel://h:1/m")),
            // It can't be meant, and stays so.
            ("postgres://u:p#w@h/d", Some("postgres://u:***@h/d")),
        ] {
            let without = without_password(OsStr::new(url));
            assert_eq!(without.as_deref(), left.map(OsStr::new), "{url}");
        }
    }
}
