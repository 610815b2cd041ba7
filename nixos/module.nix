# vmsilo on NixOS: the package, and /etc/vmsilo.d from options.
#
#   imports = [ /path/to/vmsilo/nixos/module.nix ];
#   programs.vmsilo = {
#     enable = true;
#     user = "alice";
#     nixosVms.work = { hypervisor = "qemu"; memory = 2048; };
#   };
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.programs.vmsilo;
  options = import ./options.nix { inherit lib; };
  toml = pkgs.formats.toml { };

  host = options.setOnly (
    removeAttrs cfg [
      "enable"
      "package"
      "nixosVms"
    ]
  );
  files = {
    host = toml.generate "host.toml" host;
  }
  // lib.mapAttrs (name: vm: toml.generate "${name}.toml" (options.setOnly vm)) cfg.nixosVms;

  uid = config.users.users.${cfg.user}.uid or null;

  # The generator's own checks, when the system is built: a mistake fails the rebuild, not the boot.
  checked = pkgs.runCommand "vmsilo.d" { } ''
    mkdir -p root/etc/vmsilo.d "$out"
    echo ${lib.escapeShellArg "${cfg.user}:x:${toString uid}:100::/:/bin/sh"} >root/etc/passwd
    ${lib.concatStrings (
      lib.mapAttrsToList (name: file: ''
        cp ${file} root/etc/vmsilo.d/${name}.toml
      '') files
    )}
    ${cfg.package}/lib/systemd/system-generators/vmsilo-generator --check --root "$PWD/root"
    cp root/etc/vmsilo.d/*.toml "$out"
  '';
in
{
  options.programs.vmsilo = options.host // {
    enable = lib.mkEnableOption "virtual machines that systemd starts on demand";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The vmsilo package.";
    };
    nixosVms = lib.mkOption {
      type = lib.types.attrsOf options.vm;
      default = { };
      description = "The VMs, by name.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = uid != null;
        message = "programs.vmsilo.user: users.users.${cfg.user}.uid must be set";
      }
    ]
    ++ lib.concatLists (
      lib.mapAttrsToList (
        name: vm:
        map (option: {
          assertion = vm.${option} == null;
          message = "programs.vmsilo.nixosVms.${name}.${option}: not implemented yet; build the image with vm-image(8)";
        }) options.nixOnly
      ) cfg.nixosVms
    );

    environment.systemPackages = [
      cfg.package
      pkgs.nftables # vmsilo-net(8) looks for nft in the system's path
    ];
    environment.etc = lib.mapAttrs' (
      name: _: lib.nameValuePair "vmsilo.d/${name}.toml" { source = "${checked}/${name}.toml"; }
    ) files
    // lib.genAttrs (map (file: "systemd/network/${file}") [
      "05-vmsilo.link"
      "05-vmsilo.network"
      "06-vmsilo.network"
    ]) (name: { source = "${cfg.package}/lib/${name}"; })
    // {
      "NetworkManager/conf.d/vmsilo.conf".source = "${cfg.package}/lib/NetworkManager/conf.d/vmsilo.conf";
    };
    services.udev.packages = [ cfg.package ];

    systemd.packages = [ cfg.package ]; # units and the generator
    security.polkit.enable = true; # rules are found in the system's share/polkit-1
  };
}
