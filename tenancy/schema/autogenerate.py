"""Write down what leads from the tables a chain makes to the tables that the models describe.

Alembic finds the differences on a scratch database and words single operations; here they are put into the shape that
revisions have: portable types by name, a rebuild where the product has to rebuild a table (from a description of the
table, because what is read back from a database has lost its checks), and each step passed over where a run that was
cut off has done it. Alembic is imported when first needed: see ``chain.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from tenancy import types
from tenancy.schema.chain import Chain

_HELPERS = '''

def missing(table: str, name: str | None = None) -> bool:
    """Say whether a table, or something of it, is still to be made."""
    return not repeats() or name not in found(table)


def there(table: str, name: str | None = None) -> bool:
    """Say whether a table, or something of it, is still to be dropped."""
    return not repeats() or name in found(table)


def repeats() -> bool:
    """Say whether an earlier run may have left its first part behind."""
    context = op.get_context()
    return not context.as_sql and not context.impl.transactional_ddl


def found(table: str) -> set[str | None]:
    """Name what a table has: columns, indexes and constraints, and None for itself; nothing where there is no table."""
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(table):
        return set()
    kinds = (
        inspector.get_columns,
        inspector.get_indexes,
        inspector.get_unique_constraints,
        inspector.get_foreign_keys,
    )
    return {None} | {item["name"] for kind in kinds for item in kind(table)}
'''


@dataclass
class Draft:
    """Hold the bodies of a revision, and what its writer should look at."""

    upgrade: str
    downgrade: str
    tables: str = ""
    imports: set[str] = field(default_factory=set)
    look_at: list[str] = field(default_factory=list)

    def text(self, head: str, revision: str, down: str | None, *, destructive: bool) -> str:
        """Give the whole file; ``head`` is its docstring."""
        ours = f"\nfrom tenancy.types import {', '.join(sorted(self.imports))}\n" if self.imports else ""
        return (
            f'"""{head}"""\n\nimport sqlalchemy as sa\nfrom alembic import op\n{ours}\n'
            f"revision = {_quoted(revision)}\ndown_revision = {_quoted(down)}\ndestructive = {destructive}\n\n\n"
            f"def upgrade() -> None:\n{self.upgrade}\n\ndef downgrade() -> None:\n{self.downgrade}"
            f"{self.tables}{_HELPERS}"
        )


def draft(chain: Chain, connection: sa.Connection, metadata: sa.MetaData) -> Draft | None:
    """Compare a scratch database at head, which holds nothing but the chain's tables, with the models.

    Gives None where they agree.
    """
    from alembic.autogenerate import produce_migrations  # slow: see the module's docstring
    from alembic.autogenerate.api import AutogenContext
    from alembic.migration import MigrationContext

    made = Draft("", "")
    options = {
        "target_metadata": metadata,
        "version_table": chain.version_table,
        "compare_type": True,
        "compare_server_default": True,
        "render_item": lambda kind, item, context: _by_name(kind, item, made.imports),
        "sqlalchemy_module_prefix": "sa.",
        "alembic_module_prefix": "op.",
        "user_module_prefix": None,
    }
    context = MigrationContext.configure(connection, opts=options)
    script: Any = produce_migrations(context, metadata)
    if script.upgrade_ops.is_empty():
        return None
    old = _reflected(connection, metadata, _altered(script.upgrade_ops))
    made.look_at += _unseen(old, metadata)
    up = _Writer(AutogenContext(context, metadata), old, metadata, "before")
    back = _Writer(up.context, dict(metadata.tables), metadata, "after")
    made.upgrade, made.downgrade = up.body(script.upgrade_ops), back.body(script.downgrade_ops)
    made.tables = "".join([*up.described.values(), *back.described.values()])
    made.look_at += up.look_at
    return made


class _Writer:
    """Word operations one way; ``tables`` are those that stand there when it begins."""

    def __init__(self, context: Any, tables: dict[str, sa.Table], metadata: sa.MetaData, when: str) -> None:
        self.context = context
        self.tables = tables
        self.metadata = metadata
        self.when = when
        self.described: dict[str, str] = {}
        self.look_at: list[str] = []

    def body(self, container: Any) -> str:
        return "".join(_indented(block) for op in container.ops for block in self._blocks(op))

    def _blocks(self, op: Any) -> list[str]:
        kind = type(op).__name__
        if kind == "CreateTableOp":
            for column in (item for item in op.columns if isinstance(item, sa.Column)):
                self._make_portable(op.table_name, column)
            return [f"if missing({_quoted(op.table_name)}):\n{_indented(self._worded(op))}"]
        if kind == "DropTableOp":
            return [f"if there({_quoted(op.table_name)}):\n{_indented(self._worded(op))}"]
        return self._changes(op) if kind == "ModifyTableOps" else [self._worded(op) + "\n"]

    def _changes(self, op: Any) -> list[str]:
        """Change one table: step by step where SQLite can, else all in one rebuild of it."""
        table = op.table_name
        if all(self._is_plain(table, step) for step in op.ops):
            return [self._step(table, step) for step in op.ops]
        self.described[table] = self._description(table)
        with self.context._within_batch():
            steps = "".join(_indented(self._step(table, step)) for step in op.ops)
        opened = f"with op.batch_alter_table({_quoted(table)}, copy_from={table}_{self.when}()) as batch_op:\n"
        return [opened + steps]

    def _is_plain(self, table: str, step: Any) -> bool:
        """Say whether SQLite does it without a rebuild (sqlite.org, "ALTER TABLE")."""
        kind = type(step).__name__
        if kind == "AddColumnOp":
            return _is_constant(step.column.server_default)
        if kind == "DropColumnOp":
            rules = (c for c in self.tables[table].constraints if not isinstance(c, sa.CheckConstraint))
            checks = (str(c.sqltext) for c in self.tables[table].constraints if isinstance(c, sa.CheckConstraint))
            held = any(
                step.column_name in rule.columns
                for rule in rules
                if isinstance(rule, sa.schema.ColumnCollectionConstraint)
            )
            return not held and not any(re.search(rf"\b{re.escape(step.column_name)}\b", text) for text in checks)
        return kind in ("CreateIndexOp", "DropIndexOp")

    def _step(self, table: str, step: Any) -> str:
        kind = type(step).__name__
        if kind == "AlterColumnOp":
            self._make_alter_portable(table, step)
            return self._worded(step) + "\n"
        if kind == "AddColumnOp":
            self._make_portable(table, step.column)
            if not _is_constant(step.column.server_default):
                self.look_at.append(
                    f"{table}.{step.column.name}: MySQL does not fill in rows by a default that is no constant."
                )
        name = _name_of(step)
        guard = "there" if kind.startswith("Drop") else "missing"
        return f"if {guard}({_quoted(table)}, {_quoted(name)}):\n{_indented(self._worded(step))}"

    def _worded(self, step: Any) -> str:
        from alembic.autogenerate import render_op_text

        text = render_op_text(self.context, step)
        if type(step).__name__ == "DropColumnOp":  # SQL Server drops no column that has a default
            text = text[:-1] + ", mssql_drop_default=True)"
        return text

    def _make_portable(self, table: str, column: sa.Column[Any]) -> None:
        """Give a column that was read back from the scratch database, and is in no model, types for every product."""
        if table in self.metadata.tables and column.name in self.metadata.tables[table].c:
            return
        column.type = _portable(column.type, None)
        column.server_default = _default(column.server_default, column.type)

    def _make_alter_portable(self, table: str, step: Any) -> None:
        """Keep what does not change as the model has it: MySQL and SQL Server say a column anew as a whole."""
        model = self.metadata.tables[table].c[step.column_name]
        if step.modify_type is None:
            step.existing_type = model.type
        for side in ("existing_type", "modify_type"):
            told = getattr(step, side)
            if told is not None and told is not model.type:
                setattr(step, side, _portable(told, model.type))
        if step.modify_server_default is False:
            step.existing_server_default = model.server_default
        elif step.modify_server_default is not None and step.modify_server_default is not model.server_default:
            step.modify_server_default = _default(step.modify_server_default, model.type)

    def _description(self, table: str) -> str:
        from alembic.operations.ops import CreateTableOp

        described = self.tables[table]
        op: Any = CreateTableOp.from_table(described)
        op.kw = {}
        text = self._worded(op).replace("op.create_table(", "sa.Table(", 1)
        text = text.replace(f"{table!r},", f"{table!r}, metadata,", 1).rstrip(")").rstrip()
        for index in sorted(described.indexes, key=lambda index: str(index.name)):
            columns = ", ".join(_quoted(str(column.name)) for column in index.columns)
            text += f",\nsa.Index({_quoted(str(index.name))}, {columns}{', unique=True' if index.unique else ''})"
        tense = "was" if self.when == "before" else "is from here on"
        return (
            f"\n\ndef {table}_{self.when}() -> sa.Table:\n"
            f'    """Describe {table} as it {tense}: what SQLite rebuilds must not be guessed from it."""\n'
            f"    metadata = sa.MetaData()\n{self._parents(described)}{_indented('return ' + text + ')')}"
        )

    def _parents(self, table: sa.Table) -> str:
        """Name the tables that keys point at, with the columns they point at."""
        from alembic.autogenerate.render import _repr_type

        wanted: dict[str, dict[str, TypeEngine[Any]]] = {}
        for key in sorted(table.foreign_keys, key=lambda key: key.target_fullname):
            if key.column.table is not table:
                wanted.setdefault(key.column.table.name, {})[key.column.name] = key.parent.type
        lines = []
        for parent, columns in wanted.items():
            told = ", ".join(
                f"sa.Column({_quoted(n)}, {_repr_type(kind, self.context)})" for n, kind in columns.items()
            )
            lines.append(_indented(f"sa.Table({_quoted(parent)}, metadata, {told})"))
        return "".join(lines)


# --- tables as they were, and types by their names --------------------------------------------------------


def _altered(container: Any) -> set[tuple[str, str]]:
    changes = (step for op in container.ops for step in getattr(op, "ops", ()))
    return {(step.table_name, step.column_name) for step in changes if type(step).__name__ == "AlterColumnOp"}


def _reflected(connection: sa.Connection, metadata: sa.MetaData, altered: set[tuple[str, str]]) -> dict[str, sa.Table]:
    """Describe the tables of the scratch database by the models' types, where these did not change."""
    old = sa.MetaData()
    old.reflect(connection)
    for name, table in old.tables.items():
        model = metadata.tables.get(name)
        for column in table.c:
            like = model.c[column.name] if model is not None and column.name in model.c else None
            if like is not None and (name, column.name) not in altered:
                column.type, column.server_default = like.type, like.server_default
            else:
                column.type = _portable(column.type, None if like is None else like.type)
                column.server_default = _default(column.server_default, column.type)
    return dict(old.tables)


def _unseen(old: dict[str, sa.Table], metadata: sa.MetaData) -> list[str]:
    """Name the checks that differ: Alembic compares none."""
    found = []
    for name, table in metadata.tables.items():
        if name in old:
            there, wanted = (
                {str(c.name) for c in t.constraints if isinstance(c, sa.CheckConstraint)} for t in (old[name], table)
            )
            found += [
                f"{name}: write the check {check} yourself, Alembic compares none." for check in sorted(there ^ wanted)
            ]
    return found


def _portable(kind: TypeEngine[Any], like: TypeEngine[Any] | None) -> TypeEngine[Any]:
    """Give the portable type that SQLite keeps in this way; ``like`` is what the column is in the models."""
    if isinstance(kind, sa.CHAR) and kind.length == 32:
        return types.RowId()
    if isinstance(kind, sa.Text):
        return types.LongText()
    if isinstance(kind, sa.String) and kind.length:
        if isinstance(like, types.KeyText):
            return types.KeyText(kind.length)
        return sa.String(kind.length) if type(like) is sa.String else types.Line(kind.length)
    if isinstance(kind, sa.DateTime):
        return types.Timestamp()
    return kind.as_generic()


def _default(default: Any, kind: TypeEngine[Any]) -> Any:
    """Give a default that was read back as the one it was written as."""
    told = str(getattr(default, "arg", default)).strip("()") if default is not None else ""
    if "strftime" in told and isinstance(kind, types.Timestamp):
        return sa.DefaultClause(types.utc_now())
    if isinstance(kind, sa.Boolean) and told.strip("'") in ("0", "1"):
        return sa.DefaultClause(sa.true() if told.strip("'") == "1" else sa.false())
    if re.fullmatch(r"'[^']*'", told):
        return sa.DefaultClause(told[1:-1])
    return default


def _by_name(kind: str, item: Any, imports: set[str]) -> str | bool:
    """Word our own types and defaults by name; False leaves it to Alembic."""
    if kind == "server_default":
        item = getattr(item, "arg", item)
        if isinstance(item, sa.sql.elements.False_ | sa.sql.elements.True_):
            return "sa.false()" if isinstance(item, sa.sql.elements.False_) else "sa.true()"
        return _imported("utc_now()", imports) if isinstance(item, types.utc_now) else False
    if kind != "type":
        return False
    if isinstance(item, types.KeyText):
        return _imported(f"KeyText({item.length})", imports)
    if isinstance(item, types.Timestamp):
        return _imported("Timestamp()", imports)
    if isinstance(item, sa.Uuid) and not item.native_uuid:
        return _imported("RowId()", imports)
    if isinstance(item, sa.UnicodeText) and item._variant_mapping:
        return _imported("LongText()", imports)
    if isinstance(item, sa.Unicode) and item._variant_mapping:
        return _imported(f"Line({item.length})", imports)
    return False


def _imported(text: str, imports: set[str]) -> str:
    imports.add(text.partition("(")[0])
    return text


def _is_constant(default: Any) -> bool:
    told = getattr(default, "arg", default)
    return told is None or isinstance(told, str | sa.sql.elements.False_ | sa.sql.elements.True_)


def _name_of(step: Any) -> str:
    for attribute in ("index_name", "constraint_name", "column_name"):
        if getattr(step, attribute, None):
            return str(getattr(step, attribute))
    return str(step.column.name)


def _indented(text: str) -> str:
    lines = (f"    {line}" if line.strip() else "" for line in text.rstrip("\n").split("\n"))
    return "\n".join(lines) + "\n"


def _quoted(text: str | None) -> str:
    return "None" if text is None else f'"{text}"'
