class Enlarger < Formula
  desc "Enlarge images up to 16x on your own machine"
  homepage "{{homepage}}"
  version "{{version}}"
  license any_of: ["Apache-2.0", "MIT"]

  on_macos do
    on_arm do
      url "{{url aarch64-apple-darwin}}"
      sha256 "{{sha256 aarch64-apple-darwin}}"
    end
    on_intel do
      url "{{url x86_64-apple-darwin}}"
      sha256 "{{sha256 x86_64-apple-darwin}}"
    end
  end

  on_linux do
    on_arm do
      url "{{url aarch64-unknown-linux-gnu}}"
      sha256 "{{sha256 aarch64-unknown-linux-gnu}}"
    end
    on_intel do
      url "{{url x86_64-unknown-linux-gnu}}"
      sha256 "{{sha256 x86_64-unknown-linux-gnu}}"
    end
  end

  def install
    bin.install "enlarger"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/enlarger.bash" => "enlarger"
    zsh_completion.install "completions/_enlarger"
    fish_completion.install "completions/enlarger.fish"
  end

  service do
    run [opt_bin/"enlarger", "serve"]
    keep_alive true
    log_path var/"log/enlarger.log"
    error_log_path var/"log/enlarger.log"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/enlarger --version")
    system bin/"enlarger", "models", "verify"
  end
end
