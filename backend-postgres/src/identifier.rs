//! Names of schemas and tables, checked and quoted.

use oncekey_core::InvalidInput;

/// The longest name that PostgreSQL keeps whole, in bytes.
const MOST_BYTES: usize = 63;
/// Room for what is added to the table's name: `_expires_at`.
const ROOM: usize = 12;

/// A table of a schema.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Table {
    schema: String,
    name: String,
}

impl Table {
    /// # Errors
    /// [`InvalidInput`] when a name is empty, too long, or holds a NUL.
    pub(crate) fn new(schema: &str, name: &str) -> Result<Self, InvalidInput> {
        check("schema", schema, MOST_BYTES)?;
        check("table", name, MOST_BYTES - ROOM)?;
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// As it stands in a statement.
    pub(crate) fn quoted(&self) -> String {
        self.quoted_with("")
    }

    /// Of a name beside the table's: its own and `suffix`.
    pub(crate) fn quoted_with(&self, suffix: &str) -> String {
        format!("{}.{}", quote(&self.schema), quote(&format!("{}{suffix}", self.name)))
    }
}

fn check(what: &str, name: &str, most: usize) -> Result<(), InvalidInput> {
    if name.is_empty() || name.contains('\0') {
        return Err(InvalidInput::new(format!("the {what}'s name is empty, or holds a NUL")));
    }
    if name.len() > most {
        return Err(InvalidInput::new(format!(
            "the {what}'s name has {} bytes, and {most} is the most",
            name.len()
        )));
    }
    Ok(())
}

/// A name as SQL writes it, whatever it holds.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it. With a backslash it is in the one form that doesn't depend on whether the session
/// takes a backslash for an escape (`standard_conforming_strings`).
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', r"\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_whatever_it_holds() {
        let table = Table::new("pub\"lic", "drop table x; --").unwrap();
        assert_eq!(table.quoted(), r#""pub""lic"."drop table x; --""#);
        assert_eq!(table.quoted_with("_meta"), r#""pub""lic"."drop table x; --_meta""#);
    }

    #[test]
    fn a_text_is_quoted_whatever_it_holds() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"it's \'"), r"E'it''s \\'''");
    }

    #[test]
    fn a_name_that_would_be_cut_is_refused() {
        assert!(Table::new("s", &"t".repeat(51)).is_ok());
        assert!(Table::new("s", &"t".repeat(52)).is_err());
        assert!(Table::new(&"s".repeat(64), "t").is_err());
        assert!(Table::new("", "t").is_err());
        assert!(Table::new("s", "a\0b").is_err());
    }
}
