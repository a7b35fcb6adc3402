//! [`Address`]: which deployment a URL means.

use oncekey_core::InvalidInput;
use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion};

use crate::source::tcp;

/// Where the records are.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// One server, by TCP, TLS or a socket.
    Single(Box<redis::Client>),
    /// Whichever server these sentinels call the master of this name.
    Sentinel { sentinels: Vec<(String, u16)>, master: String, login: Login, own: Own },
    /// The cluster that these belong to.
    Cluster { nodes: Vec<(String, u16)>, login: Login },
}

/// How to introduce oneself.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: i64,
    pub(crate) tls: bool,
    pub(crate) resp3: bool,
}

/// How to introduce oneself to the sentinels themselves, where they ask.
#[derive(Clone, Default)]
pub(crate) struct Own {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("database", &self.database)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

const FORMS: &str = "redis://[user:password@]host:port/database, rediss://.., redis+unix:///path, \
    redis+sentinel://host:port,host:port/master?sentinel_password=.., or redis+cluster://host:port,host:port";

impl Address {
    /// What is wrong with a URL is said without repeating it: it may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, InvalidInput> {
        let invalid = |what: &str| InvalidInput::new(format!("{what}: write {FORMS}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("this is no URL"))?;
        match scheme {
            "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "valkey+unix" | "unix" => {
                let info = url.into_connection_info().map(|info| info.set_tcp_settings(tcp()));
                info.and_then(redis::Client::open)
                    .map(|client| Self::Single(Box::new(client)))
                    .map_err(|_| invalid("this URL can't be read"))
            }
            "redis+sentinel" | "rediss+sentinel" | "redis+cluster" | "rediss+cluster" => {
                let several = Several::parse(rest).ok_or_else(|| invalid("this URL can't be read"))?;
                let login = Login { tls: scheme.starts_with("rediss"), ..several.login };
                if scheme.ends_with("cluster") {
                    if !several.path.is_empty() {
                        return Err(invalid("a cluster has one database, and no master to name"));
                    }
                    if several.own.user.is_some() || several.own.password.is_some() {
                        return Err(invalid("a cluster has no sentinels"));
                    }
                    return Ok(Self::Cluster { nodes: several.hosts, login });
                }
                let (master, database) = several.path.split_once('/').unwrap_or((&several.path, "0"));
                if master.is_empty() {
                    return Err(invalid("sentinels know their masters by name, and none is given"));
                }
                let database =
                    database.parse().map_err(|_| invalid("a database is a number, and this one is none"))?;
                let login = Login { database, ..login };
                Ok(Self::Sentinel {
                    sentinels: several.hosts,
                    master: master.to_owned(),
                    login,
                    own: several.own,
                })
            }
            _ => Err(invalid("this URL's scheme is none of these")),
        }
    }
}

/// The rest of a URL with several hosts.
struct Several {
    hosts: Vec<(String, u16)>,
    path: String,
    login: Login,
    own: Own,
}

impl Several {
    fn parse(rest: &str) -> Option<Self> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut login, mut own) = (Login::default(), Own::default());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=')? {
                ("protocol", "resp3") => login.resp3 = true,
                ("protocol", "resp2") => {}
                ("sentinel_user", user) => own.user = Some(decode(user)?),
                ("sentinel_password", password) => own.password = Some(decode(password)?),
                _ => return None,
            }
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = match authority.rsplit_once('@') {
            None => authority,
            Some((who, hosts)) => {
                let (user, password) = who.split_once(':').unwrap_or((who, ""));
                let some = |part: &str| decode(part).map(|part| Some(part).filter(|part| !part.is_empty()));
                (login.user, login.password) = (some(user)?, some(password)?);
                hosts
            }
        };
        let hosts: Option<Vec<_>> = hosts.split(',').map(host).collect();
        Some(Self { hosts: hosts?, path: decode(path)?, login, own })
    }
}

/// `host:port`, `[address]:port`.
fn host(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// Percent signs undone.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

impl Login {
    pub(crate) fn protocol(&self) -> ProtocolVersion {
        if self.resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 }
    }

    /// As the driver knows a host.
    pub(crate) fn at(&self, host: &str, port: u16) -> ConnectionAddr {
        let host = host.to_owned();
        if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_url_is_understood() {
        let url = "redis+sentinel://a%40b:p%3Aw@h1:26379,[::1]:26380/mymaster/3?protocol=resp3\
            &sentinel_user=s&sentinel_password=p%26";
        let Address::Sentinel { sentinels, master, login, own } = Address::parse(url).unwrap() else {
            panic!("another kind");
        };
        assert_eq!((own.user.as_deref(), own.password.as_deref()), (Some("s"), Some("p&")));
        assert_eq!(sentinels, [("h1".to_owned(), 26379), ("::1".to_owned(), 26380)]);
        assert_eq!((&*master, login.database, login.tls, login.resp3), ("mymaster", 3, false, true));
        assert_eq!((login.user.as_deref(), login.password.as_deref()), (Some("a@b"), Some("p:w")));
        let Address::Cluster { nodes, login } = Address::parse("rediss+cluster://:secret@h:1,i:2").unwrap()
        else {
            panic!("another kind");
        };
        assert_eq!((nodes.len(), login.tls, login.password.as_deref()), (2, true, Some("secret")));
        for url in ["redis://h", "rediss://h:1/2", "redis+unix:///a/b.sock", "redis://h?protocol=resp3"] {
            let Ok(Address::Single(client)) = Address::parse(url) else { panic!("{url}") };
            assert!(client.get_connection_info().tcp_settings().nodelay(), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "secret",
            "http://u:secret@h",
            "redis://u:secret@h:port",
            "redis+sentinel://u:secret@h:1",
            "redis+sentinel://u:secret@h:1/m/secret",
            "redis+cluster://u:secret@h:1/0",
            "redis+cluster://u:secret@h",
            "redis+cluster://u:secret@h:1?secret=1",
            "redis+cluster://h:1?sentinel_password=secret",
            "redis+sentinel://h:1/m?sentinel_password=sec%ret",
            "redis+cluster://u:sec%ret@h:1",
        ] {
            let told = Address::parse(url).unwrap_err().to_string();
            assert!(told.contains("redis+sentinel://host"), "{told}");
            assert!(!told.contains("secret") || url == "secret", "{told}");
        }
    }
}
