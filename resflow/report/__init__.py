"""Records to pages: answer, tables, figures, report.html and README.md, exports for papers."""
