{
  description = "ChaarFM Worker: lend this computer to a friend's music library";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      version = "@VERSION@";
      files = {
        x86_64-linux = {
          system = "linux-x86_64";
          sha256 = "@SHA256_LINUX_X86_64@";
        };
        aarch64-linux = {
          system = "linux-arm64";
          sha256 = "@SHA256_LINUX_ARM64@";
        };
      };
      package =
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          file = files.${system};
        in
        pkgs.stdenv.mkDerivation {
          pname = "chaarfm-worker";
          inherit version;
          src = pkgs.fetchurl {
            url = "@REPOSITORY@/releases/download/v${version}/chaarfm-worker-${version}-${file.system}.tar.xz";
            inherit (file) sha256;
          };
          nativeBuildInputs = [ pkgs.autoPatchelfHook ];
          # Loads the drivers of graphics cards, if there are any.
          runtimeDependencies = [ pkgs.vulkan-loader ];
          dontStrip = true;
          installPhase = ''
            install -Dm755 chaarfm-worker -t $out/bin
            mkdir -p $out/share
            cp -r applications metainfo icons $out/share
            install -Dm644 LICENSE-MIT LICENSE-APACHE THIRD-PARTY-LICENCES.txt -t $out/share/doc/chaarfm-worker
          '';
          meta = {
            homepage = "@REPOSITORY@";
            license = with pkgs.lib.licenses; [
              mit
              asl20
            ];
            mainProgram = "chaarfm-worker";
            platforms = builtins.attrNames files;
          };
        };
    in
    {
      packages = nixpkgs.lib.genAttrs (builtins.attrNames files) (system: {
        default = package system;
      });
    };
}
