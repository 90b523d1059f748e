//! A database as SQL.

use std::fmt::Write;
use std::path::Path;

use rusqlite::Connection;

/// Name and SQL of everything in a database but what SQLite makes by itself.
pub fn schema(database: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT name, sql FROM sqlite_schema
               WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut rows = database.prepare(sql).unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The whole database, rows in the order of their keys.
pub fn dump(path: &Path) -> String {
    let database = Connection::open(path).unwrap();
    let number =
        |name: &str| -> i64 { database.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
    let mut out = String::from("BEGIN;\n");
    let mut line = |text: &str| writeln!(out, "{text}").unwrap();
    line(&format!("PRAGMA application_id = {};", number("application_id")));
    line(&format!("PRAGMA user_version = {};", number("user_version")));
    let objects = "SELECT name, type, sql FROM sqlite_schema WHERE sql IS NOT NULL
                   AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";
    let mut objects = database.prepare(objects).unwrap();
    let objects = objects
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .unwrap();
    let objects: Vec<_> = objects.map(Result::unwrap).collect();
    objects.iter().for_each(|(_, _, sql)| line(&format!("{sql};")));
    let tables = objects.iter().filter(|(_, kind, _)| kind == "table").map(|(name, _, _)| &**name);
    // Where AUTOINCREMENT goes on.
    for table in tables.chain(["sqlite_sequence"]) {
        for row in rows(&database, table) {
            line(&format!("INSERT INTO {table} VALUES ({row});"));
        }
    }
    line("COMMIT;");
    out
}

fn rows(database: &Connection, table: &str) -> Vec<String> {
    let mut columns =
        database.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
    let columns = columns.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let quoted: Vec<_> = columns.map(|name| format!("quote({})", name.unwrap())).collect();
    let sql = format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ', ' || "));
    let mut rows = database.prepare(&sql).unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}
