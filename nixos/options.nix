# Options for the module system, from the table that the generator and the manual use (options.json).
#
# An option that is not set is null and does not reach the files: defaults are the generator's.
{ lib }:
let
  inherit (lib) types mkOption mapAttrs optionalAttrs;

  table = builtins.fromJSON (builtins.readFile ./options.json);

  submodule =
    node:
    types.submodule {
      options = mapAttrs (_: toOption) (node.keys or { });
      freeformType = if node ? each then types.lazyAttrsOf (valueType node.each) else null;
    };

  # A table of tables holds "each"; a list of tables holds it too, and its items may have keys of their own.
  eachOf = node: submodule (node.each or { });

  valueType =
    node:
    {
      BOOL = types.bool;
      INT =
        if node.option ? high then types.ints.between node.option.low node.option.high else types.int;
      TEXT = types.str;
      CHOICE = types.enum (node.option.choices or [ ]);
      TEXTS = types.listOf types.str;
      FREE = if node.option.status == "NIX" then types.anything else types.attrsOf types.anything;
      SCALAR = types.oneOf [
        types.bool
        types.int
        types.str
      ];
      BOOL_OR_PATH = types.either types.bool types.str;
      DISK = types.either types.str (submodule node);
      TABLES = types.attrsOf (eachOf node);
      LIST = types.listOf (eachOf node);
    }
    .${node.option.kind};

  refused = {
    WORKS = "";
    PENDING = " (Not implemented yet: refused when the system is built.)";
    NIX = " (Not implemented yet.)";
  };

  leaf =
    node:
    mkOption (
      {
        description = node.option.text + refused.${node.option.status};
      }
      // (
        if node.option.required or false then
          { type = valueType node; }
        else
          {
            type = types.nullOr (valueType node);
            default = null;
          }
      )
      // optionalAttrs (node.option ? default) {
        defaultText = lib.literalExpression (builtins.toJSON node.option.default);
      }
    );

  toOption =
    node:
    if node ? option then
      leaf node
    else
      mkOption {
        type = submodule node;
        default = { };
        description = "A group of options.";
      };

  # A tree without what was left unset: null, and groups in which nothing is set.
  setOnly =
    value:
    if lib.isAttrs value then
      lib.filterAttrs (_: item: item != null && item != { }) (mapAttrs (_: setOnly) value)
    else if lib.isList value then
      map setOnly value
    else
      value;
in
{
  inherit setOnly;

  # enable and nixosVms are what the module itself is about.
  host = mapAttrs (_: toOption) (
    removeAttrs table.host [
      "enable"
      "nixosVms"
    ]
  );
  vm = types.submodule { options = mapAttrs (_: toOption) table.vm; };

  # Options of a VM that only a guest built by Nix could honour.
  nixOnly = lib.attrNames (lib.filterAttrs (_: node: (node.option.status or "") == "NIX") table.vm);
}
