"""Invoices and credit notes as PDF. See README.md."""
