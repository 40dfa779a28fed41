"""The help page of a group of commands: in sections by what people do, and no sentence cut."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperGroup


class Group(TyperGroup):
    """A group whose help has its commands under one heading, each with its whole first sentence."""

    sections: ClassVar[dict[str, tuple[str, ...]]] = {}  # heading -> commands; others come under Commands

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a heading."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        listed = {name for names in self.sections.values() for name in names}
        others = tuple(name for name in commands if name not in listed)
        width = max(map(len, commands))  # of all, so that sections are aligned
        for heading, names in (*self.sections.items(), ("Commands", others)):
            rows = [(name, command) for name in names if (command := commands.get(name)) and not command.hidden]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(
                        [(name.ljust(width), command.get_short_help_str(limit=1000)) for name, command in rows]
                    )


class Root(Group):
    """All commands, by what people do."""

    sections: ClassVar = {
        "Run studies": ("list", "init", "plan", "study", "tune", "retry", "schema"),
        "Look at results": ("status", "report", "open", "compare", "show", "log", "upgrade"),
        "Trained networks": ("models", "pretrain", "export", "predict", "maps", "landscape"),
        "Photos": ("data",),
        "This machine": ("doctor", "bench", "clean"),
    }
