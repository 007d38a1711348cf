//! What is kept of an execution besides what happens: written when it is created, and again by each update of its flow.

use rusqlite::{Connection, params};

use crate::flow::problem::Format;
use crate::id::LayerId;

use super::row::{Count, StoredPath, nonsense, read_json, read_path};
use super::{Creation, Earlier};

/// Writes it into a new store.
pub(super) fn write(connection: &Connection, creation: &Creation) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute(
        "INSERT INTO creation (one, id, flow, backend, created_ms, workdir, jobs, cpu_millis, memory, parameters,
                               source_name, source_format, source_text, options)
         VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            creation.id.to_string(),
            creation.flow,
            creation.backend,
            creation.created_ms,
            StoredPath(&creation.workdir),
            creation.jobs,
            Count(creation.cpu_millis),
            Count(creation.memory),
            json(&creation.parameters)?,
            creation.source_name,
            format_word(creation.source_format),
            creation.source_text,
            json(&creation.options)?,
        ],
    )?;
    transaction.execute("INSERT INTO meta (one, epoch) VALUES (1, 1)", [])?;
    let mut insert = transaction.prepare("INSERT INTO layers (id, name) VALUES (?, ?)")?;
    for (id, name) in creation.layers.iter().enumerate() {
        insert.execute(params![id as i64, name])?;
    }
    drop(insert);
    write_elsewhere(&transaction, creation)?;
    transaction.commit()
}

/// Writes that an update has taken place: in the transaction of the event that says so.
pub(super) fn update(connection: &Connection, creation: &Creation) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO updates (number, flow, backend, parameters, source_name, source_format, source_text, options)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            creation.earlier.len() as i64,
            creation.flow,
            creation.backend,
            json(&creation.parameters)?,
            creation.source_name,
            format_word(creation.source_format),
            creation.source_text,
            json(&creation.options)?,
        ],
    )?;
    let there = connection.query_row("SELECT count(*) FROM layers", [], |row| row.get::<_, u32>(0))?;
    let mut insert = connection.prepare("INSERT INTO layers (id, name) VALUES (?, ?)")?;
    for (id, name) in creation.layers.iter().enumerate().skip(there as usize) {
        insert.execute(params![id as i64, name])?;
    }
    connection.execute("UPDATE layers SET backend = NULL WHERE backend IS NOT NULL", [])?;
    write_elsewhere(connection, creation)
}

fn write_elsewhere(connection: &Connection, creation: &Creation) -> rusqlite::Result<()> {
    let mut update = connection.prepare("UPDATE layers SET backend = ? WHERE id = ?")?;
    for (layer, backend) in &creation.elsewhere {
        update.execute(params![backend, layer.0])?;
    }
    Ok(())
}

/// Reads it back from a store whose layout has this version.
pub(super) fn read(connection: &Connection, version: i64) -> rusqlite::Result<Creation> {
    // An update may be written just now.
    let transaction = connection.unchecked_transaction()?;
    let connection = &*transaction;
    let (options, backend) = if version < 2 { ("'[]'", "NULL") } else { ("options", "backend") };
    let query = format!(
        "SELECT id, flow, backend, created_ms, workdir, jobs, cpu_millis, memory, parameters, source_name,
                source_format, source_text, {options}
         FROM creation WHERE one = 1"
    );
    let mut creation = connection.query_row(&query, [], |row| {
        Ok(Creation {
            id: row.get::<_, String>(0)?.parse().map_err(|error| nonsense(0, error))?,
            flow: row.get(1)?,
            backend: row.get(2)?,
            created_ms: row.get(3)?,
            workdir: read_path(row, 4)?,
            jobs: row.get(5)?,
            cpu_millis: row.get::<_, Count>(6)?.0,
            memory: row.get::<_, Count>(7)?.0,
            parameters: read_json(row, 8)?,
            source_name: row.get(9)?,
            source_format: read_format(row, 10)?,
            source_text: row.get(11)?,
            options: read_json(row, 12)?,
            elsewhere: Vec::new(),
            layers: Vec::new(),
            earlier: Vec::new(),
        })
    })?;
    if version >= 3 {
        read_updates(connection, &mut creation)?;
    }
    let mut select = connection.prepare(&format!("SELECT id, name, {backend} FROM layers ORDER BY id"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? != creation.layers.len() as i64 {
            return Err(nonsense(0, "a layer is missing"));
        }
        if let Some(backend) = row.get(2)? {
            creation.elsewhere.push((LayerId(row.get(0)?), backend));
        }
        creation.layers.push(row.get(1)?);
    }
    Ok(creation)
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn read_updates(connection: &Connection, creation: &mut Creation) -> rusqlite::Result<()> {
    let mut select = connection.prepare(
        "SELECT number, flow, backend, parameters, source_name, source_format, source_text, options
         FROM updates ORDER BY number",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? != creation.earlier.len() as i64 + 1 {
            return Err(nonsense(0, "an update is missing"));
        }
        creation.flow = row.get(1)?;
        creation.backend = row.get(2)?;
        creation.options = read_json(row, 7)?;
        creation.earlier.push(Earlier {
            parameters: std::mem::replace(&mut creation.parameters, read_json(row, 3)?),
            source_name: std::mem::replace(&mut creation.source_name, row.get(4)?),
            source_format: std::mem::replace(&mut creation.source_format, read_format(row, 5)?),
            source_text: std::mem::replace(&mut creation.source_text, row.get(6)?),
        });
    }
    Ok(())
}

fn format_word(format: Format) -> &'static str {
    match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
    }
}

fn read_format(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Format> {
    match row.get::<_, String>(at)?.as_str() {
        "yaml" => Ok(Format::Yaml),
        "json" => Ok(Format::Json),
        other => Err(nonsense(at, format!("`{other}` is no format of flow files"))),
    }
}
