//! Rows and bytes of each table, counted along with each write.

use rusqlite::{Connection, params};

/// The tables that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Events,
    Tokens,
    /// Accepted rows of `miner_templates`, with their lists.
    Templates,
    /// Rejected rows of `miner_templates`.
    Rejected,
    /// Inputs of those.
    Inputs,
    Transactions,
    Shares,
    Blocks,
    Users,
    Aggregates,
    /// Entries of the accounting feed.
    Accounting,
}

impl Table {
    pub(super) const ALL: [Self; 11] = [
        Self::Events,
        Self::Tokens,
        Self::Templates,
        Self::Rejected,
        Self::Inputs,
        Self::Transactions,
        Self::Shares,
        Self::Blocks,
        Self::Users,
        Self::Aggregates,
        Self::Accounting,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Tokens => "tokens",
            Self::Templates => "templates",
            Self::Rejected => "rejected",
            Self::Inputs => "verdict_inputs",
            Self::Transactions => "transactions",
            Self::Shares => "shares",
            Self::Blocks => "blocks",
            Self::Users => "users",
            Self::Aggregates => "aggregates",
            Self::Accounting => "accounting",
        }
    }

    /// What a row takes beside its variable part, bytes: an estimate.
    pub(super) const fn row_bytes(self) -> u64 {
        match self {
            Self::Events => 70,
            Self::Tokens => 60,
            Self::Templates => 500,
            Self::Rejected => 400,
            Self::Inputs => 200,
            Self::Transactions => 130,
            Self::Shares => 260,
            Self::Blocks => 600,
            Self::Users => 150,
            Self::Aggregates => 160,
            Self::Accounting => 280,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// All of them, with what the database knew last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TableSizes {
    now: [Size; Table::ALL.len()],
    stored: [Size; Table::ALL.len()],
}

impl TableSizes {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut sizes = Self::default();
        let mut rows = connection.prepare_cached("SELECT name, rows, bytes FROM table_sizes")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if let Some(table) = Table::ALL.iter().find(|table| table.name() == name) {
                sizes.now[*table as usize] = Size { rows: row.get(1)?, bytes: row.get(2)? };
            }
        }
        sizes.stored = sizes.now;
        Ok(sizes)
    }

    pub(super) fn of(&self, table: Table) -> Size {
        self.now[table as usize]
    }

    /// A row was written, with so many bytes beside [`Table::row_bytes`].
    pub(super) fn added(&mut self, table: Table, variable_bytes: u64) {
        let size = &mut self.now[table as usize];
        size.rows += 1;
        size.bytes += table.row_bytes() + variable_bytes;
    }

    /// Rows were deleted, with so many bytes beside [`Table::row_bytes`] together.
    pub(super) fn removed(&mut self, table: Table, rows: u64, variable_bytes: u64) {
        let size = &mut self.now[table as usize];
        size.rows = size.rows.saturating_sub(rows);
        size.bytes = size.bytes.saturating_sub(rows * table.row_bytes() + variable_bytes);
    }

    /// More or fewer bytes in rows that stay.
    pub(super) fn grew(&mut self, table: Table, bytes: u64) {
        self.now[table as usize].bytes += bytes;
    }

    pub(super) fn shrank(&mut self, table: Table, bytes: u64) {
        let size = &mut self.now[table as usize];
        size.bytes = size.bytes.saturating_sub(bytes);
    }

    /// Writes what changed, at the end of a transaction.
    pub(super) fn store(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for table in Table::ALL {
            let (now, stored) = (self.now[table as usize], &mut self.stored[table as usize]);
            if now != *stored {
                connection
                    .prepare_cached(
                        "INSERT INTO table_sizes (name, rows, bytes) VALUES (?1, ?2, ?3)
                         ON CONFLICT (name) DO UPDATE SET rows = ?2, bytes = ?3",
                    )?
                    .execute(params![table.name(), now.rows, now.bytes])?;
                *stored = now;
            }
        }
        Ok(())
    }
}
