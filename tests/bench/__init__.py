"""Measurements. They print tables and judge nothing: a number is only worth something beside its neighbours."""
