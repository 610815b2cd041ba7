# Built by the Makefile, with every path in the store.
{
  lib,
  stdenvNoCC,
  gnumake,
  python3,
}:
let
  python = python3.withPackages (packages: [ packages.cbor2 ]);
in
stdenvNoCC.mkDerivation {
  pname = "vmsilo";
  version = "0.1.0";

  src = lib.cleanSource ./..;
  nativeBuildInputs = [ gnumake ];
  buildInputs = [ python ];

  dontConfigure = true;
  dontBuild = true;
  installFlags = [
    "prefix=${placeholder "out"}"
    "python=${python}/bin/python3"
  ];
  # The store sets the time of every file to 1, which would make each .pyc look outdated.
  postInstall = ''
    ${python}/bin/python3 -I -m compileall -q -f --invalidation-mode unchecked-hash "$out/lib/vmsilo"
  '';
  # Launchers carry their own flags; wrapping them would double the start-up time.
  dontWrapPythonPrograms = true;

  meta = {
    description = "Qubes-like isolation for ordinary Linux desktops, on systemd's own mechanisms";
    license = lib.licenses.lgpl21Plus;
    platforms = lib.platforms.linux;
    mainProgram = "vm-run";
  };
}
