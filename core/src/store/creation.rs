//! What is kept of an execution from its creation on: written once, read by all.

use rusqlite::{Connection, params};

use crate::flow::problem::Format;
use crate::id::LayerId;

use super::Creation;
use super::row::{Count, StoredPath, nonsense, read_json, read_path};

/// Writes it into a new store.
pub(super) fn write(connection: &Connection, creation: &Creation) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let parameters = serde_json::to_string(&creation.parameters)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let options = serde_json::to_string(&creation.options)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
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
            parameters,
            creation.source_name,
            format_word(creation.source_format),
            creation.source_text,
            options,
        ],
    )?;
    transaction.execute("INSERT INTO meta (one, epoch) VALUES (1, 1)", [])?;
    let mut insert = transaction.prepare("INSERT INTO layers (id, name) VALUES (?, ?)")?;
    for (id, name) in creation.layers.iter().enumerate() {
        insert.execute(params![id as i64, name])?;
    }
    drop(insert);
    let mut update = transaction.prepare("UPDATE layers SET backend = ? WHERE id = ?")?;
    for (layer, backend) in &creation.elsewhere {
        update.execute(params![backend, layer.0])?;
    }
    drop(update);
    transaction.commit()
}

/// Reads it back from a store whose layout has this version.
pub(super) fn read(connection: &Connection, version: i64) -> rusqlite::Result<Creation> {
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
            source_format: parse_format(&row.get::<_, String>(10)?)?,
            source_text: row.get(11)?,
            options: read_json(row, 12)?,
            elsewhere: Vec::new(),
            layers: Vec::new(),
        })
    })?;
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

fn format_word(format: Format) -> &'static str {
    match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
    }
}

fn parse_format(word: &str) -> rusqlite::Result<Format> {
    match word {
        "yaml" => Ok(Format::Yaml),
        "json" => Ok(Format::Json),
        other => Err(nonsense(10, format!("`{other}` is no format of flow files"))),
    }
}
