"""The proof. Folders mirror the source; interop/ meets real programs, system/ runs the installed command."""
