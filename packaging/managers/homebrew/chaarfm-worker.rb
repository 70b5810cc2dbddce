cask "chaarfm-worker" do
  version "@VERSION@"
  sha256 "@SHA256_MACOS@"

  url "@REPOSITORY@/releases/download/v#{version}/chaarfm-worker-#{version}-macos-universal.zip"
  name "ChaarFM Worker"
  desc "Lend this computer to a friend's music library"
  homepage "@REPOSITORY@"

  depends_on macos: ">= :big_sur"

  app "ChaarFM Worker.app"
  binary "#{appdir}/ChaarFM Worker.app/Contents/MacOS/chaarfm-worker"

  uninstall quit: "com.chaarfm.Worker"

  zap trash: [
    "~/Library/Application Support/chaarfm-worker",
    "~/Library/Caches/chaarfm-worker",
  ]
end
