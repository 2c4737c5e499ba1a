package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mailkeep/mailkeep/internal/auth"
	"github.com/mailkeep/mailkeep/internal/datadir"
	"github.com/mailkeep/mailkeep/internal/instance"
	"github.com/mailkeep/mailkeep/internal/secret"
)

// setUpAdmin sees to it that the default instance has an admin token. It returns a token only when
// it has made one. The file is written before the token works: a crash in between leaves a file
// that the next start takes up.
func setUpAdmin(ctx context.Context, dir *datadir.Dir, tokens *auth.Service, chosen secret.Text) (made secret.Text, err error) {
	if !chosen.Empty() {
		if err := tokens.SetAdminToken(ctx, instance.Default, chosen); err != nil {
			return secret.Text{}, fmt.Errorf("--admin-token-file, MAILKEEP_ADMIN_TOKEN: %w", err)
		}
		return secret.Text{}, nil
	}
	if has, err := tokens.HadTokens(ctx, instance.Default); has || err != nil {
		return secret.Text{}, err
	}
	token, err := readToken(dir)
	if errors.Is(err, fs.ErrNotExist) {
		made = auth.NewAdminToken()
		token, err = made, dir.WriteFile(AdminTokenFile, []byte(made.Reveal()+"\n"))
	}
	if err != nil {
		return secret.Text{}, fmt.Errorf("admin token: %w", err)
	}
	return made, tokens.SetAdminToken(ctx, instance.Default, token)
}

func readToken(dir *datadir.Dir) (secret.Text, error) {
	data, err := dir.ReadFile(AdminTokenFile)
	return secret.New(string(bytes.TrimSpace(data))), err
}
