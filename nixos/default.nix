# The package by itself: nix-build nixos
{
  pkgs ? import <nixpkgs> { },
}:
pkgs.callPackage ./package.nix { }
