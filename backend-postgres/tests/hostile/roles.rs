//! Roles that may not do everything: the tables are made by their owner, and used by somebody else.

use oncekey_postgres::{ErrorKind, IdempotencyAdmin, IdempotencyStore, PostgresStore, PostgresStoreBuilder};
use oncekey_testbed::postgres::Server;

use crate::kit::{all_fail, database, every_operation, fails, granted, reserve, server, slot, works};

/// A role that may connect and no more, in an empty database: the role, the database, and the URL of both.
struct App {
    role: String,
    database: String,
    url: String,
}

fn app() -> App {
    let database = database();
    let role = format!("app_{database}");
    server().psql(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let url = url_of(server(), &role, &database);
    App { role, database, url }
}

fn url_of(server: &Server, role: &str, database: &str) -> String {
    server.url(database).replace("user=postgres", &format!("user={role}"))
}

impl App {
    fn grant(&self, what: &str) {
        server().psql_in(&self.database, &format!("GRANT {what} TO {}", self.role)).unwrap();
    }
}

/// The script, as a migration tool runs it: by psql, in one transaction, as the owner.
fn migrate(builder: &PostgresStoreBuilder, database: &str) {
    let script = builder.schema_sql().unwrap();
    let mut psql = server().program("psql");
    psql.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-c", &script, "-d", &server().url(database)]);
    let done = psql.output().unwrap();
    assert!(done.status.success(), "{script}\n{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn without_the_right_to_create_the_error_says_who_has_to_and_then_everything_works() {
    for (schema, partitions) in [("public", None), ("Own \"schema\"", Some(3))] {
        let app = app();
        let mut builder = PostgresStore::builder().schema(schema).table("keys");
        if let Some(partitions) = partitions {
            builder = builder.partitions(partitions);
        }
        let store = builder.clone().connect(&app.url).await.unwrap();
        let error = store.ensure_schema().await.unwrap_err();
        fails(&error, ErrorKind::Other, &["may not create the tables"]);
        for advice in ["owner", "ensure_schema", "schema_sql", "grant SELECT, INSERT, UPDATE and DELETE"] {
            assert!(error.to_string().contains(advice), "no `{advice}` in: {error}");
        }
        let error = reserve(&store, "a").await.unwrap_err();
        fails(&error, ErrorKind::SchemaMissing, &["ensure_schema"]);

        migrate(&builder, &app.database);
        let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
        app.grant(&format!("USAGE ON SCHEMA {quoted}"));
        app.grant(&format!("SELECT, INSERT, UPDATE, DELETE ON {quoted}.keys"));
        app.grant(&format!("SELECT ON {quoted}.keys_meta"));
        store.ensure_schema().await.unwrap();
        // What the store remembers of the missing table is forgotten.
        let grant = granted(reserve(&store, "a").await);
        for (name, said) in every_operation(&store, &slot("a"), &grant).await {
            said.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        works(&store, "b").await;
        // And a program that starts with it.
        let other = builder.connect(&app.url).await.unwrap();
        other.ensure_schema().await.unwrap();
        works(&other, "c").await;
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_by_the_error() {
    let app = app();
    let builder = PostgresStore::builder().schema("of_owner");
    migrate(&builder, &app.database);
    let error = builder.clone().connect(&app.url).await.unwrap_err();
    fails(&error, ErrorKind::Other, &["USAGE"]);
    let store = builder.connect_lazy(&app.url).unwrap();
    fails(&store.ensure_schema().await.unwrap_err(), ErrorKind::Other, &["USAGE"]);
    fails(&reserve(&store, "a").await.unwrap_err(), ErrorKind::Other, &["USAGE"]);

    app.grant("USAGE ON SCHEMA of_owner");
    fails(&store.ensure_schema().await.unwrap_err(), ErrorKind::Other, &["oncekey_slots_meta: grant SELECT"]);
    app.grant("SELECT ON of_owner.oncekey_slots_meta");
    store.ensure_schema().await.unwrap();
    let rights = ["grant SELECT, INSERT, UPDATE, DELETE"];
    fails(&reserve(&store, "a").await.unwrap_err(), ErrorKind::Other, &rights);
    fails(&store.lookup(&slot("a")).await.unwrap_err(), ErrorKind::Other, &rights);

    // All but one: what needs it says so, and leaves nothing.
    app.grant("SELECT, UPDATE, DELETE ON of_owner.oncekey_slots");
    fails(&reserve(&store, "a").await.unwrap_err(), ErrorKind::Other, &rights);
    assert_eq!(store.lookup(&slot("a")).await.unwrap(), None);
    app.grant("INSERT ON of_owner.oncekey_slots");
    let grant = granted(reserve(&store, "a").await);

    let revoke = format!("REVOKE ALL ON of_owner.oncekey_slots FROM {}", app.role);
    server().psql_in(&app.database, &revoke).unwrap();
    all_fail(every_operation(&store, &slot("a"), &grant).await, ErrorKind::Other, &rights);
    app.grant("SELECT, INSERT, UPDATE, DELETE ON of_owner.oncekey_slots");
    let entry = store.lookup(&slot("a")).await.unwrap();
    assert!(entry.is_some(), "the record outlives the rights of its role");
    assert_eq!(store.stats().await.unwrap().live, 1);
    works(&store, "b").await;
}

#[tokio::test]
async fn a_role_that_may_connect_to_nothing_hears_so() {
    let app = app();
    server().psql(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", app.database)).unwrap();
    let error = PostgresStore::connect(&app.url).await.unwrap_err();
    fails(&error, ErrorKind::Other, &["permission denied for database"]);
    app.grant(&format!("CONNECT ON DATABASE {}", app.database));
    PostgresStore::connect(&app.url).await.unwrap();
}
