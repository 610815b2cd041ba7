# Built by the Makefile, with every path in the store.
{
  lib,
  stdenvNoCC,
  gnumake,
  python3,
}:
stdenvNoCC.mkDerivation {
  pname = "vmsilo";
  version = "0.1.0";

  src = lib.cleanSource ./..;
  nativeBuildInputs = [ gnumake ];
  buildInputs = [ python3 ];

  dontConfigure = true;
  dontBuild = true;
  installFlags = [
    "prefix=${placeholder "out"}"
    "python=${python3}/bin/python3"
  ];
  # Launchers start without site-packages. One of them has to find a package all the same.
  postFixup = ''
    sed -i '3a sys.path.append("${python3.pkgs.pyroute2}/${python3.sitePackages}")' "$out/libexec/vmsilo/net"
  '';

  # The store sets the time of every file to 1, which would make each .pyc look outdated.
  postInstall = ''
    ${python3}/bin/python3 -I -m compileall -q -f --invalidation-mode unchecked-hash "$out/lib/vmsilo"
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
